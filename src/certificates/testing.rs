//! Support for TLS tests: settings of a client and a server that trust each other, and a socket in
//! memory.

use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Settings of a client and of a server whose certificate for `localhost` it believes.
pub(crate) fn settings(
    version: &'static SupportedProtocolVersion,
) -> (ClientConfig, ServerConfig, RootCertStore) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = super::provider();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    (client, server, roots)
}

/// A socket: received bytes of the peer, and bytes to the peer. It never blocks.
#[derive(Default)]
pub(crate) struct Socket {
    pub(crate) incoming: Cursor<Vec<u8>>,
    pub(crate) outgoing: Vec<u8>,
}

impl Socket {
    /// Bytes that have not been read.
    pub(crate) fn left(&self) -> usize {
        self.incoming.get_ref().len() - self.incoming.position() as usize
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.left() {
            0 => Err(ErrorKind::WouldBlock.into()),
            _ => self.incoming.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
