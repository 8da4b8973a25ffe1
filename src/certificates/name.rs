//! The name in a certificate: its first DNS name, or its common name where it has no subject alternative names.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Returns the name in a certificate: its first DNS name. The common name counts only without any subject alternative name (RFC 6125, section 6.4.4).
///
/// # Errors
/// The reason for a missing name.
pub fn of(certificate: &[u8]) -> Result<String, String> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| format!("the names of the certificate cannot be read: {error}"))?;
    if let Some(names) = names {
        let mut names = names.value.general_names.iter();
        let dns = names.find_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        return dns.ok_or_else(|| {
            "none of the certificate's subject alternative names is a DNS name, \
             and its common name does not count beside them"
                .to_owned()
        });
    }
    let mut common = certificate.subject().iter_common_name();
    common
        .next()
        .and_then(|name| name.as_str().ok().map(str::to_owned))
        .ok_or_else(|| {
            "the certificate has neither a subject alternative name nor a common name".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(dns: &[&str], common: Option<&str>) -> Vec<u8> {
        let names: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_first_dns_name_or_else_the_common_name_counts() {
        let both = certificate(&["web-1", "web-2"], Some("web-3"));
        assert_eq!(of(&both).as_deref(), Ok("web-1"));
        let common = certificate(&[], Some("web-3"));
        assert_eq!(of(&common).as_deref(), Ok("web-3"));
        assert!(of(&certificate(&[], None)).is_err());
        assert!(of(&both[..both.len() / 2]).is_err());
    }

    #[test]
    fn a_common_name_does_not_count_beside_other_names() {
        use rcgen::SanType;
        let others = [
            SanType::IpAddress("10.0.0.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
            SanType::Rfc822Name("web-3@example".try_into().unwrap()),
            SanType::URI("spiffe://example/web-3".try_into().unwrap()),
            SanType::OtherName((vec![1, 2, 3, 4], "web-3".into())),
        ];
        for other in others {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "web-3");
            params.subject_alt_names = vec![other.clone()];
            let key = KeyPair::generate().unwrap();
            let only = params.self_signed(&key).unwrap();
            let error = of(only.der()).unwrap_err();
            assert!(error.contains("common name"), "{other:?}: {error}");
            // A DNS name counts wherever it stands among them.
            let dns = SanType::DnsName("web-1".try_into().unwrap());
            params.subject_alt_names.push(dns);
            let with = params.self_signed(&key).unwrap();
            assert_eq!(of(with.der()).as_deref(), Ok("web-1"), "{other:?}");
        }
    }
}
