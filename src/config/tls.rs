//! `tls`: the certificate of the TCP port, and whose clients are believed. The files are read here, so that
//! a wrong one is an error of the configuration, at the start as at a reload.

use std::fmt;
use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;

use super::error::ConfigError;
use super::value::Value;

/// `tls`: TLS for the TCP port.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// `cert`: the server's certificate and those between it and a root, as PEM.
    pub cert: PathBuf,
    /// `key`: its private key, as PEM. Others must not be able to read the file.
    pub key: PathBuf,
    /// `client_ca`: who signs the certificates that clients must show, as PEM. `null`: they need none.
    pub client_ca: Option<PathBuf>,
    /// What the files held.
    pub acceptor: Acceptor,
}

/// What accepts a connection over TLS.
#[derive(Clone)]
pub struct Acceptor {
    /// For each connection.
    #[cfg(feature = "tls")]
    pub config: Arc<rustls::ServerConfig>,
    /// SHA-256 over the files: tells one from another.
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
pub(super) fn read(v: Value<'_>) -> Result<Tls, ConfigError> {
    files::read(v)
}

/// Refuses the object: what cannot be done is not to be believed done.
#[cfg(not(feature = "tls"))]
pub(super) fn read(v: Value<'_>) -> Result<Tls, ConfigError> {
    Err(v.wrong("asks for TLS, which this build does not have (feature \"tls\"); it may be null"))
}

#[cfg(feature = "tls")]
mod files {
    use std::fs::File;
    use std::io::{self, Read};
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
    use rustls::{RootCertStore, ServerConfig};
    use sha2::{Digest, Sha256};

    use super::super::error::{ConfigError, shown_path};
    use super::super::value::Value;
    use super::{Acceptor, Tls};
    use crate::limits::PEM_FILE_BYTES_MAX;

    const KEYS: [&str; 3] = ["cert", "key", "client_ca"];

    /// A file that was named, and by which value.
    struct Named<'a> {
        value: Value<'a>,
        path: PathBuf,
        bytes: Vec<u8>,
        mode: u32,
    }

    impl<'a> Named<'a> {
        fn open(value: Value<'a>) -> Result<Self, ConfigError> {
            let path = PathBuf::from(value.path()?);
            let (bytes, mode) = contents(&path).map_err(|error| {
                value.error(format!("{} cannot be read: {error}", shown_path(&path)))
            })?;
            Ok(Self {
                value,
                path,
                bytes,
                mode,
            })
        }

        fn error(&self, why: impl std::fmt::Display) -> ConfigError {
            self.value
                .error(format!("{}: {why}", shown_path(&self.path)))
        }

        fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
            let found = found.map_err(|error| self.error(format!("is no PEM: {error}")))?;
            match found.is_empty() {
                true => Err(self.error("holds no certificate")),
                false => Ok(found),
            }
        }

        fn key(&self) -> Result<PrivateKeyDer<'static>, ConfigError> {
            if self.mode & 0o007 != 0 {
                return Err(self.error("others may read this private key: chmod o= ends that"));
            }
            PrivateKeyDer::from_pem_slice(&self.bytes)
                .map_err(|error| self.error(format!("holds no private key: {error}")))
        }
    }

    pub(super) fn read(v: Value<'_>) -> Result<Tls, ConfigError> {
        let missing = v.error("needs \"cert\" and \"key\", the names of two PEM files".to_owned());
        let of = v.section(&KEYS)?;
        let (Some(cert), Some(key)) = (of.get("cert"), of.get("key")) else {
            return Err(missing);
        };
        let (cert, key) = (Named::open(cert)?, Named::open(key)?);
        let client_ca = of.get("client_ca").and_then(Value::unless_null);
        let client_ca = client_ca.map(Named::open).transpose()?;
        let mut hash = Sha256::new();
        for file in [Some(&cert), Some(&key), client_ca.as_ref()] {
            let bytes = file.map_or(&[][..], |file| &file.bytes);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        let acceptor = Acceptor {
            config: Arc::new(acceptor(&cert, &key, client_ca.as_ref())?),
            digest: hash.finalize().into(),
        };
        Ok(Tls {
            cert: cert.path,
            key: key.path,
            client_ca: client_ca.map(|file| file.path),
            acceptor,
        })
    }

    fn acceptor(
        cert: &Named<'_>,
        key: &Named<'_>,
        client_ca: Option<&Named<'_>>,
    ) -> Result<ServerConfig, ConfigError> {
        // Named here, so that no other crate's choice of a provider can be in the way.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| cert.error(error))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in file.certificates()? {
                    roots.add(certificate).map_err(|error| file.error(error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| file.error(error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(cert.certificates()?, key.key()?)
            .map_err(|error| key.error(error))?;
        // A host connects once and stays: nothing is remembered of it for a second time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The file's bytes and its mode.
    fn contents(path: &Path) -> io::Result<(Vec<u8>, u32)> {
        let file = File::open(path)?;
        let mode = file.metadata()?.mode();
        let mut bytes = Vec::new();
        file.take(PEM_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok((bytes, mode))
    }
}
