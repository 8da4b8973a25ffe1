//! Authorities that verify the certificate of a server.

pub use imp::{in_words, over_tls};

/// Settings of a client under construction.
type Builder = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

#[cfg(feature = "tls")]
mod imp {
    use std::io;
    use std::path::Path;

    use crate::certificates::{self, PemFile};
    use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

    use super::Builder;
    use crate::cli::Failure;

    /// Makes `client` use TLS and trust the certificates in `ca`, else the authorities of the system.
    ///
    /// # Errors
    /// A file that cannot be used, status 2; a system without authorities, status 1.
    pub fn over_tls(client: Builder, ca: Option<&Path>) -> Result<Builder, Failure> {
        let found = match ca {
            Some(file) => {
                let wrong = |why| Failure::usage(format!("--ca: {why}"));
                let file = PemFile::open(file).map_err(wrong)?;
                file.authorities().map_err(wrong)?;
                file.certificates().map_err(wrong)?
            }
            None => certificates::certificates_of_the_system().map_err(|why| {
                Failure::failed(format!("{why}: give the server's authority by --ca"))
            })?,
        };
        let roots: Vec<Certificate<'static>> = found
            .iter()
            .map(|one| Certificate::from_der(one).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(certificates::provider())
            .root_certs(RootCerts::from(roots))
            .build();
        Ok(client.tls_config(tls).https_only(true))
    }

    /// Error of a connection over TLS, in words.
    pub fn in_words(error: io::Error) -> String {
        certificates::stream_error_in_words(error).to_string()
    }
}

#[cfg(not(feature = "tls"))]
mod imp {
    use std::io;
    use std::path::Path;

    use super::Builder;
    use crate::cli::Failure;

    /// Refuses TLS, which this build does not have.
    ///
    /// # Errors
    /// Always: wrong usage.
    pub fn over_tls(_: Builder, _: Option<&Path>) -> Result<Builder, Failure> {
        Err(Failure::usage(
            "--api is an https:// address: this build speaks no TLS (the feature \"tls\")",
        ))
    }

    /// The error's own text.
    pub fn in_words(error: io::Error) -> String {
        error.to_string()
    }
}
