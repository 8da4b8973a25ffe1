//! `tls`: certificate of the TCP port and trusted authorities of clients. The files are read here,
//! so that a wrong file is an error of the configuration, at the start and at a reload.

use std::fmt;
use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;

use serde_json::json;

use super::error::ConfigError;
use super::value::Value;
use crate::store::address::{StoreUrl, StoreUrlError};

/// `tls`: TLS for the TCP port.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// `cert`: the server's certificate chain, as PEM.
    pub cert: PathBuf,
    /// `key`: its private key, as PEM. Others must not be able to read the file.
    pub key: PathBuf,
    /// `client_ca`: authorities of the required client certificates, as PEM. `null`: none is
    /// required.
    pub client_ca: Option<PathBuf>,
    /// Content of the files.
    pub acceptor: Acceptor,
    /// Warning for a certificate that many peers refuse.
    pub warning: Option<String>,
}

impl serde::Serialize for Tls {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (cert, key, client_ca) = (&self.cert, &self.key, &self.client_ca);
        json!({"cert": cert, "key": key, "client_ca": client_ca}).serialize(to)
    }
}

/// Acceptor of TLS connections.
#[derive(Clone)]
pub struct Acceptor {
    /// For each connection.
    #[cfg(feature = "tls")]
    pub config: Arc<rustls::ServerConfig>,
    /// Accepted clients, if they need a certificate.
    #[cfg(feature = "tls")]
    pub clients: Option<crate::certificates::Clients>,
    /// SHA-256 over the files, to compare acceptors.
    digest: [u8; 32],
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl PartialEq for Acceptor {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// Reads the object.
#[cfg(feature = "tls")]
pub(super) fn read(v: &Value<'_>) -> Result<Tls, ConfigError> {
    files::read(v, &files::KEYS)
}

/// Reads the object of HTTP, whose clients show tokens and no certificates.
#[cfg(feature = "tls")]
pub(super) fn read_http(v: &Value<'_>) -> Result<Tls, ConfigError> {
    files::read(v, &files::KEYS[..2])
}

/// Refuses the object, since this build has no TLS.
#[cfg(not(feature = "tls"))]
pub(super) fn read(v: &Value<'_>) -> Result<Tls, ConfigError> {
    Err(v.wrong("asks for TLS, which this build does not have (feature \"tls\"); it may be null"))
}

/// The same of HTTP.
#[cfg(not(feature = "tls"))]
pub(super) fn read_http(v: &Value<'_>) -> Result<Tls, ConfigError> {
    read(v)
}

/// Reads a store's URL, and checks its file of authorities, if it has one.
pub(super) fn store_url(text: &str) -> Result<StoreUrl, String> {
    let url: StoreUrl = text.parse().map_err(|e: StoreUrlError| e.to_string())?;
    #[cfg(feature = "tls")]
    if let StoreUrl::Redis(redis) = &url
        && let Some(ca) = redis.place.ca()
    {
        crate::certificates::PemFile::open(ca)
            .and_then(|file| file.authorities())
            .map_err(|error| format!("names in ca= {error}"))?;
    }
    Ok(url)
}

#[cfg(feature = "tls")]
mod files {
    use std::fmt;
    use std::path::Path;
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
    use sha2::{Digest, Sha256};

    use super::super::error::ConfigError;
    use super::super::value::Value;
    use super::{Acceptor, Tls};
    use crate::certificates::{self, Clients, PemFile};

    pub(super) const KEYS: [&str; 3] = ["cert", "key", "client_ca"];

    /// A named file with the value that names it.
    struct Named<'a> {
        value: Value<'a>,
        file: PemFile,
    }

    impl<'a> Named<'a> {
        fn open(value: Value<'a>) -> Result<Self, ConfigError> {
            let file = PemFile::open(Path::new(&value.path()?));
            let file = file.map_err(|error| value.error(error.to_string()))?;
            Ok(Self { value, file })
        }

        /// The error of this value.
        fn error(&self, why: impl fmt::Display) -> ConfigError {
            self.value.error(why.to_string())
        }

        /// An error of the file's contents.
        fn wrong(&self, why: impl fmt::Display) -> ConfigError {
            self.error(self.file.unusable(why))
        }
    }

    pub(super) fn read(v: &Value<'_>, keys: &[&str]) -> Result<Tls, ConfigError> {
        let missing = v.error("needs \"cert\" and \"key\", the names of two PEM files".to_owned());
        let of = v.clone().section(keys)?;
        let (Some(cert), Some(key)) = (of.get("cert"), of.get("key")) else {
            return Err(missing);
        };
        let (cert, key) = (Named::open(cert)?, Named::open(key)?);
        let client_ca = of.get("client_ca").and_then(Value::unless_null);
        let client_ca = client_ca.map(Named::open).transpose()?;
        let mut hash = Sha256::new();
        for file in [Some(&cert), Some(&key), client_ca.as_ref()] {
            let bytes = file.map_or(&[][..], |named| named.file.bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        let clients = client_ca.as_ref().map(clients).transpose()?;
        let acceptor = Acceptor {
            config: Arc::new(acceptor(&cert, &key, clients.as_ref())?),
            clients,
            digest: hash.finalize().into(),
        };
        Ok(Tls {
            cert: cert.file.path().to_owned(),
            key: key.file.path().to_owned(),
            client_ca: client_ca.map(|named| named.file.path().to_owned()),
            acceptor,
            warning: cert.file.authority_warning(),
        })
    }

    /// Clients that the authorities in `ca` accept.
    fn clients(ca: &Named<'_>) -> Result<Clients, ConfigError> {
        let roots = ca.file.authorities().map_err(|error| ca.error(error))?;
        let provider = certificates::provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| ca.wrong(error))?;
        let digest = Sha256::digest(ca.file.bytes()).into();
        Ok(Clients::new(verifier, digest))
    }

    fn acceptor(
        cert: &Named<'_>,
        key: &Named<'_>,
        clients: Option<&Clients>,
    ) -> Result<ServerConfig, ConfigError> {
        let builder = ServerConfig::builder_with_provider(certificates::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| cert.wrong(error))?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
        };
        let chain = cert
            .file
            .certificates()
            .map_err(|error| cert.error(error))?;
        let secret = key.file.key().map_err(|error| key.error(error))?;
        let mut config = builder
            .with_single_cert(chain, secret)
            .map_err(|error| key.wrong(certificates::explain(&error)))?;
        // A connection lasts, so resumption is of no use.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}
