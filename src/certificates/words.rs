//! Errors of the TLS library in words: without the names of its types.

use rustls::{CertificateError, Error};

/// `error` in words.
#[must_use]
pub fn of(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
        Error::InvalidCertificate(error) => format!("invalid peer certificate: {}", peer(error)),
        Error::NoCertificatesPresented => "the peer shows no certificate".to_owned(),
        other => other.to_string(),
    }
}

fn peer(error: &CertificateError) -> String {
    let words = match error {
        CertificateError::BadEncoding => "it cannot be read",
        CertificateError::Expired => "it has expired",
        CertificateError::NotValidYet => "it is not valid yet",
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnknownIssuer => "its issuer is not among the trusted authorities",
        CertificateError::BadSignature => "its signature is wrong",
        CertificateError::NotValidForName => "it is for another name",
        CertificateError::InvalidPurpose => "it is not for this purpose",
        other => return other.to_string(),
    };
    words.to_owned()
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
}
