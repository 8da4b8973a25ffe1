//! Whose certificate it is: its first DNS name, else its common name.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The name in a certificate: its first DNS name, else its common name.
///
/// # Errors
/// Why there is none.
pub fn of(certificate: &[u8]) -> Result<String, String> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| format!("the names of the certificate cannot be read: {error}"))?;
    let dns = names.and_then(|names| {
        names
            .value
            .general_names
            .iter()
            .find_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
    });
    let common = || {
        let mut common = certificate.subject().iter_common_name();
        common.next()?.as_str().ok().map(str::to_owned)
    };
    dns.or_else(common)
        .ok_or_else(|| "the certificate names nobody".to_owned())
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
    fn the_first_dns_name_counts_and_else_the_common_name() {
        let both = certificate(&["web-1", "web-2"], Some("web-3"));
        assert_eq!(of(&both).as_deref(), Ok("web-1"));
        let common = certificate(&[], Some("web-3"));
        assert_eq!(of(&common).as_deref(), Ok("web-3"));
        // An address is no name.
        let address = certificate(&["10.0.0.7"], Some("web-3"));
        assert_eq!(of(&address).as_deref(), Ok("web-3"));
        assert!(of(&certificate(&[], None)).is_err());
        assert!(of(&both[..both.len() / 2]).is_err());
    }
}
