//! Clients that are accepted for their certificates, at the handshake and later.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::explain;
use crate::time::UnixMs;

/// The authorities whose clients are accepted.
#[derive(Clone, Debug)]
pub struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Identifies the set of authorities.
    digest: [u8; 32],
}

impl Clients {
    /// Accepts the clients of `verifier`; `digest` is that of its file.
    #[must_use]
    pub fn new(verifier: Arc<dyn ClientCertVerifier>, digest: [u8; 32]) -> Self {
        Self { verifier, digest }
    }

    /// The verifier for handshakes.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Returns whether the authorities equal those of `other`.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// Checks the certificates of a peer as in a handshake at `wall`: its own, then the
    /// intermediate ones.
    ///
    /// # Errors
    /// The reason why they are not accepted.
    pub fn check(&self, shown: Option<&[CertificateDer<'_>]>, wall: UnixMs) -> Result<(), String> {
        let Some([own, between @ ..]) = shown else {
            return Err("no certificate was shown".to_owned());
        };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(wall.0));
        match self.verifier.verify_client_cert(own, between, now) {
            Ok(_) => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }
}

/// The first moment after `wall` at which one of these certificates is no longer valid.
#[must_use]
pub fn expiry(shown: &[CertificateDer<'_>], wall: UnixMs) -> Option<UnixMs> {
    let ends = shown.iter().filter_map(|certificate| {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let last = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        // Valid for all of its last second.
        Some(UnixMs(last.saturating_add(1).saturating_mul(1_000)))
    });
    ends.filter(|end| *end > wall).min()
}
