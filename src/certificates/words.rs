//! Errors of the TLS library in words: without the names of its types.

use std::{fmt, io};

use rustls::{CertificateError, Error};

/// `error` in words.
#[must_use]
pub fn of(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
        Error::InvalidCertificate(error) => format!("invalid peer certificate: {}", peer(error)),
        Error::NoCertificatesPresented => "the peer shows no certificate".to_owned(),
        Error::AlertReceived(alert) => format!("the peer gives up: {}", spaced(alert)),
        Error::InvalidMessage(why) => format!("damaged, or not TLS: {}", spaced(why)),
        Error::PeerIncompatible(why) => format!("the peer speaks another TLS: {}", spaced(why)),
        Error::PeerMisbehaved(why) => format!("the peer breaks the rules of TLS: {}", spaced(why)),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "the peer breaks the rules of TLS: a message out of place".to_owned()
        }
        Error::General(why) => why.clone(),
        other => other.to_string(),
    }
}

/// An error of a stream over TLS, in words where the TLS library has made it.
#[must_use]
pub fn of_stream(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner.map(of) {
        Some(words) => io::Error::new(error.kind(), words),
        None => error,
    }
}

fn peer(error: &CertificateError) -> String {
    let words = match error {
        CertificateError::BadEncoding => "it cannot be read",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet"
        }
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnknownIssuer => "its issuer is not among the trusted authorities",
        CertificateError::BadSignature => "its signature is wrong",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for this purpose"
        }
        other => {
            let name = spaced(other);
            let known = OF_THE_VERIFIER.iter().find(|(of, _)| *of == name);
            return known.map_or(name, |(_, words)| (*words).to_owned());
        }
    };
    words.to_owned()
}

/// Errors of the certificate verifier that follow from how a certificate was made, with its remedy.
const OF_THE_VERIFIER: [(&str, &str); 3] = [
    ("ca used as end entity", OF_AN_AUTHORITY),
    (
        "unsupported cert version",
        "it is not of X.509 version 3: openssl x509 -req makes one with -extfile and \
         subjectAltName in that file",
    ),
    (
        "end entity used as ca",
        "its issuer is not the certificate of an authority (CA:TRUE)",
    ),
];

/// The fault of a certificate that has CA:TRUE and is not that of an authority, with its remedy.
pub const OF_AN_AUTHORITY: &str = "it is the certificate of an authority (CA:TRUE), and cannot be \
    that of a peer: openssl req -x509 makes such ones, and with \
    -addext basicConstraints=critical,CA:FALSE one for a peer";

/// The innermost name in the `Debug` form of an error, as words: `UnknownCA` is `unknown CA`.
fn spaced(error: &impl fmt::Debug) -> String {
    let shown = format!("{error:?}");
    let head = shown.split([' ', '{', ')']).next().unwrap_or_default();
    let mut names = head.split('(');
    let is_name = |name: &&str| name.starts_with(|first: char| first.is_ascii_alphabetic());
    let name: Vec<char> = names.rfind(is_name).unwrap_or_default().chars().collect();
    let mut words = String::new();
    for (at, one) in name.iter().enumerate() {
        let is_small = |at: usize| name.get(at).is_some_and(|c| !c.is_ascii_uppercase());
        let begins = at > 0 && one.is_ascii_uppercase() && (is_small(at - 1) || is_small(at + 1));
        if begins {
            words.push(' ');
        }
        // An abbreviation stays as it is.
        let is_alone = one.is_ascii_uppercase() && (at == 0 || begins) && is_small(at + 1);
        words.push(if is_alone {
            one.to_ascii_lowercase()
        } else {
            *one
        });
    }
    words
}

#[cfg(test)]
mod tests {
    use rustls::InconsistentKeys;

    use super::*;

    #[test]
    fn no_name_of_a_type_is_shown() {
        let mismatch = Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
        assert_eq!(of(&mismatch), "the key is not that of the certificate");
        for error in [
            CertificateError::BadEncoding,
            CertificateError::Expired,
            CertificateError::UnknownIssuer,
            CertificateError::NotValidForName,
        ] {
            let name = format!("{error:?}");
            let words = of(&Error::InvalidCertificate(error));
            assert!(!words.contains(&name), "{words}");
            assert!(words.starts_with("invalid peer certificate: "), "{words}");
        }
    }

    #[test]
    fn what_a_peer_does_wrong_is_told_in_words() {
        use rustls::{
            AlertDescription, InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved,
        };
        let inner = webpki_like("CaUsedAsEndEntity");
        for (error, words) in [
            (
                Error::InvalidCertificate(CertificateError::Other(OtherError(inner))),
                "invalid peer certificate: it is the certificate of an authority (CA:TRUE), and cannot \
                 be that of a peer: openssl req -x509 makes such ones, and with \
                 -addext basicConstraints=critical,CA:FALSE one for a peer",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "the peer gives up: unknown CA",
            ),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "damaged, or not TLS: invalid content type",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered),
                "the peer speaks another TLS: tls12 not offered",
            ),
            (
                Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests),
                "the peer breaks the rules of TLS: too many key update requests",
            ),
        ] {
            assert_eq!(of(&error), words);
            let stream = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(of_stream(stream).to_string(), words);
        }
        let other = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(of_stream(other).to_string(), "timed out");
    }

    /// An error whose `Debug` form is this name.
    fn webpki_like(name: &'static str) -> std::sync::Arc<Named> {
        std::sync::Arc::new(Named(name))
    }

    struct Named(&'static str);

    impl fmt::Debug for Named {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl fmt::Display for Named {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Named {}
}
