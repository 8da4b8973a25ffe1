//! Certificates and keys in PEM files, and the names in certificates.

mod clients;
mod name;
mod pem;
#[cfg(test)]
pub(crate) mod testing;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::escape::escape;
use crate::files::{Guard, read_bytes};
use crate::limits::PEM_FILE_BYTES_MAX;

pub use clients::{Clients, expiry};
pub use name::of as name_of;
use words::OF_AN_AUTHORITY;
pub use words::{of as error_in_words, of_stream as stream_error_in_words};

/// An error of a PEM file, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{file} {why}")]
pub struct PemError {
    file: String,
    why: String,
}

/// A PEM file that has been read.
#[derive(Debug)]
pub struct PemFile {
    path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

impl PemFile {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read, or is longer than [`PEM_FILE_BYTES_MAX`].
    pub fn open(path: &Path) -> Result<Self, PemError> {
        // Between its blocks a PEM file may hold text in any encoding.
        let read = read_bytes(path, PEM_FILE_BYTES_MAX, Guard::Trusted);
        let (bytes, mode) = read.map_err(|error| wrong(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
            mode,
        })
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Content of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// An error for content that its user refused.
    pub fn unusable(&self, why: impl fmt::Display) -> PemError {
        self.wrong(format_args!("cannot be used: {why}"))
    }

    fn wrong(&self, why: impl fmt::Display) -> PemError {
        wrong(&self.path, why)
    }

    /// All certificates in it, at least one.
    ///
    /// # Errors
    /// When it is no PEM or holds none.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Err(error) => Err(self.wrong(pem::explain(&error))),
            Ok(found) if found.is_empty() => Err(self.lacks("certificate", "x509")),
            Ok(found) => Ok(found),
        }
    }

    /// Warning for a file whose first certificate is that of an authority: our own programs accept
    /// no peer that shows one, although others may.
    pub fn authority_warning(&self) -> Option<String> {
        let certificates = self.certificates().ok()?;
        let (_, first) = X509Certificate::from_der(certificates.first()?).ok()?;
        let file = self.shown_path();
        first.is_ca().then(|| format!("{file}: {OF_AN_AUTHORITY}"))
    }

    /// The private key in it.
    ///
    /// # Errors
    /// When others may read it, or it holds none.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        let key = PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            _ if pem::is_encrypted(&self.bytes) => {
                let file = self.shown_path();
                self.wrong(format_args!(
                    "holds an encrypted private key, for which no passphrase can be given here: \
                     openssl pkey -in {file} -out NEW_FILE decrypts it"
                ))
            }
            rustls::pki_types::pem::Error::NoItemsFound => self.lacks("private key", "pkey"),
            error => self.wrong(pem::explain(&error)),
        })?;
        match self.mode & 0o007 {
            0 => Ok(key),
            _ => Err(self.wrong(format_args!(
                "is a private key that others may read: chmod o= {}",
                self.shown_path()
            ))),
        }
    }

    /// The error of a file without what is looked for: what it holds instead. `command` of openssl makes PEM of it.
    fn lacks(&self, what: &str, command: &str) -> PemError {
        let held = pem::labels(&self.bytes);
        match held.first() {
            Some(label) => self.wrong(format_args!("holds no {what}, but a {label}")),
            // A sequence, as all DER of these is.
            None if self.bytes.starts_with(&[0x30, 0x82]) => {
                let file = self.shown_path();
                self.wrong(format_args!(
                    "holds no {what} as PEM; it seems to be DER: \
                     openssl {command} -inform der -in {file} -out NEW_FILE converts it"
                ))
            }
            None => self.wrong(format_args!("holds no {what}: there is no PEM in it")),
        }
    }

    fn shown_path(&self) -> String {
        shown(&self.path)
    }

    /// The certificates as trusted authorities.
    ///
    /// # Errors
    /// When it is not PEM, has no certificate, or one that cannot be used.
    pub fn authorities(&self) -> Result<RootCertStore, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots
                .add(certificate)
                .map_err(|error| self.unusable(explain(&error)))?;
        }
        Ok(roots)
    }
}

/// The system's authorities. `SSL_CERT_FILE` and `SSL_CERT_DIR` name other places.
///
/// # Errors
/// When the system has no authority; with the first error, if there was one.
pub fn authorities_of_the_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Some that cannot be used are usual.
    match roots.add_parsable_certificates(certificates_of_the_system()?) {
        (0, _) => Err("the system has no usable certificates".to_owned()),
        _ => Ok(roots),
    }
}

/// The certificates of the system's authorities, usable or not.
///
/// # Errors
/// When the system has no authority; with the first error, if there was one.
pub fn certificates_of_the_system() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    match found.errors.first() {
        _ if !found.certs.is_empty() => Ok(found.certs),
        Some(error) => Err(format!("the system has no usable certificates: {error}")),
        None => Err("the system has no certificates".to_owned()),
    }
}

/// The cryptographic provider. It is passed explicitly, so another crate's default cannot
/// interfere.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Name of the server `host` as its certificate has it.
///
/// # Errors
/// The host cannot be in a certificate.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("'{host}' is no name that a certificate can have"))
}

/// Settings of a TLS client that trusts `authorities` and shows `own`, if any. Each connection has
/// a full handshake: it lasts, so resumption is of no use.
///
/// # Errors
/// The key does not match the certificate.
pub fn client(
    authorities: RootCertStore,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Explains rustls's error about a certificate or its key.
#[must_use]
pub fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "it is not the key of the certificate".to_owned(),
        rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding) => {
            "a certificate in it is damaged".to_owned()
        }
        error => words::of(error),
    }
}

fn shown(path: &Path) -> String {
    let file = path.to_string_lossy();
    escape(file.strip_prefix("./").unwrap_or(&file)).into_owned()
}

fn wrong(path: &Path, why: impl fmt::Display) -> PemError {
    PemError {
        file: shown(path),
        why: why.to_string(),
    }
}
