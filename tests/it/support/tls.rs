//! Certificates made for a test, and a host that speaks TLS by a client of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::{Host, little};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key.
pub struct Certified {
    /// As PEM.
    pub cert: String,
    /// As PEM.
    pub key: String,
}

impl Authority {
    /// Creates a new, unknown authority.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority of a test");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for `localhost` that its own key has signed, of an authority or of a peer.
    pub fn signs_itself(is_authority: bool) -> Certified {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = match is_authority {
            true => IsCa::Ca(BasicConstraints::Unconstrained),
            false => IsCa::ExplicitNoCa,
        };
        let key = KeyPair::generate().unwrap();
        Certified {
            cert: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Signs for these DNS names and this common name, until a year that is over if it is to be expired.
    pub fn signs(&self, names: &[&str], common: Option<&str>, is_expired: bool) -> Certified {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        if is_expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        self.certifies(params)
    }

    /// Signs for this DNS name, for so long from now on.
    pub fn signs_for(&self, name: &str, validity: Duration) -> Certified {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since + validity;
        self.certifies(params)
    }

    fn certifies(&self, params: CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Certified {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its own certificate, in a file.
    pub fn file(&self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, &self.pem).unwrap();
        path
    }
}

impl Certified {
    /// Writes `NAME.pem` and `NAME.key`.
    pub fn files(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        );
        std::fs::write(&cert, &self.cert).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        (cert, key)
    }
}

/// A host's connection over TLS.
pub struct TlsHost {
    /// The connection itself.
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl TlsHost {
    /// Connects, believing `authority`, and showing `certified` if there is one. Nothing has been said yet.
    #[track_caller]
    pub fn connect(
        server: SocketAddr,
        source: &str,
        authority: &Authority,
        certified: Option<&Certified>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match certified {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let cert = CertificateDer::from_pem_slice(own.cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        let name = "localhost".try_into().unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = Host::connect(server, source).stream;
        Self {
            stream: StreamOwned::new(client, stream),
        }
    }

    /// Sends a message.
    #[track_caller]
    pub fn say(&mut self, body: &[u8]) {
        self.stream.write_all(&little(body)).expect("sent");
    }

    /// Sends a message and reads the answer.
    #[track_caller]
    pub fn ask(&mut self, body: &[u8]) -> Value {
        self.say(body);
        self.reply()
    }

    /// Reads an answer.
    #[track_caller]
    pub fn reply(&mut self) -> Value {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).expect("a reply");
        let mut body = vec![0; u32::from_le_bytes(header) as usize];
        self.stream.read_exact(&mut body).expect("a reply");
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Sends messages as long as that is possible, and returns the reason of the refusal.
    #[track_caller]
    pub fn until_refused(&mut self, body: &[u8]) -> String {
        let said = self.stream.write_all(&little(body));
        let heard = said.and_then(|()| self.stream.read_exact(&mut [0]));
        match heard {
            Ok(()) => panic!("it was answered"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it was not refused"),
            Err(error) => error.to_string(),
        }
    }
}
