//! Files of `--ca`, `--cert` and `--key`, and the id in the certificate.

use crate::agent::TlsSettings;

use crate::program::args::AgentArgs;

/// TLS settings of the command line.
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// TLS settings; `None`: plain TCP.
    pub(super) settings: Option<TlsSettings>,
    /// Name in the agent's own certificate, if it has one.
    pub(super) name: Option<String>,
}

/// Reads the files. An error is one line that names the flag.
#[cfg(feature = "tls")]
pub(super) fn read(args: &AgentArgs, server: &str) -> Result<Tls, String> {
    use crate::agent::tls::TlsError;
    use crate::certificates::{PemFile, authorities_of_the_system, name_of};
    use crate::program::print_error;

    if !args.tls {
        return Ok(Tls::default());
    }
    let open = |flag: &'static str, path: &std::path::Path| {
        let wrong = move |error: crate::certificates::PemError| format!("{flag}: {error}");
        PemFile::open(path).map(|file| (file, wrong)).map_err(wrong)
    };
    let authorities = match &args.ca {
        Some(path) => {
            let (file, wrong) = open("--ca", path)?;
            file.authorities().map_err(wrong)?
        }
        None => authorities_of_the_system().map_err(|why| {
            format!("--tls: {why}; --ca names the authorities of the server's certificate")
        })?,
    };
    let (mut own, mut shown, mut name) = (None, None, None);
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        let (cert, wrong_cert) = open("--cert", cert)?;
        let (key, wrong_key) = open("--key", key)?;
        let chain = cert.certificates().map_err(wrong_cert)?;
        let first = chain.first().map_or(&[][..], |first| first);
        name = Some(name_of(first).map_err(|why| wrong_cert(cert.unusable(why)))?);
        if let Some(warning) = cert.authority_warning() {
            print_error(&format!("warning: --cert: {warning}"));
        }
        own = Some((chain, key.key().map_err(wrong_key)?));
        shown = Some((key, wrong_key));
    }
    let settings = TlsSettings::new(server, authorities, own).map_err(|error| match &shown {
        Some((key, wrong)) if matches!(error, TlsError::Own(_)) => wrong(key.unusable(error)),
        _ => format!("--server: {error}"),
    })?;
    Ok(Tls {
        settings: Some(settings),
        name,
    })
}

/// Refuses TLS, which this build does not have.
#[cfg(not(feature = "tls"))]
pub(super) fn read(args: &AgentArgs, _server: &str) -> Result<Tls, String> {
    match args.tls {
        true => Err("--tls: this build has no TLS (feature \"tls\")".to_owned()),
        false => Ok(Tls::default()),
    }
}
