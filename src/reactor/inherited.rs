//! Sockets that a service manager has bound. Connections wait in them while the server is stopped.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Socket, Type};

/// Inherited sockets by purpose. The others are bound by the server itself.
#[derive(Debug, Default)]
pub struct Inherited {
    pub tcp: Option<Socket>,
    pub udp: Option<Socket>,
    pub http: Option<Socket>,
}

/// Configured addresses of the sockets.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub tcp: SocketAddr,
    pub udp: SocketAddr,
    pub http: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Tcp,
    Udp,
    Http,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Http];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Http => "http",
        }
    }

    const fn kind(self) -> Type {
        match self {
            Self::Tcp | Self::Http => Type::STREAM,
            Self::Udp => Type::DGRAM,
        }
    }
}

/// Error of an inherited socket.
#[derive(Debug, thiserror::Error)]
#[error("inherited socket {number} ({name:?}): {why}")]
pub struct InheritedError {
    /// Position in the order of the service manager, from 0.
    number: usize,
    name: String,
    why: String,
}

impl Inherited {
    /// Finds the purpose of each socket: by its name (`tcp`, `udp`, `http`), else by its configured
    /// address, else the first free purpose of its kind in that order.
    ///
    /// # Errors
    /// A socket without a purpose, and one that listens beyond this machine where the configured
    /// address does not: the configuration was checked for the latter.
    pub fn sort(
        sockets: Vec<(Socket, String)>,
        addresses: Addresses,
    ) -> Result<Self, InheritedError> {
        let mut found = Self::default();
        for (number, (socket, name)) in sockets.into_iter().enumerate() {
            let placed = found.place(socket, &name, addresses);
            placed.map_err(|why| InheritedError { number, name, why })?;
        }
        Ok(found)
    }

    /// Returns whether no socket was inherited.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_none() && self.udp.is_none() && self.http.is_none()
    }

    fn place(&mut self, socket: Socket, name: &str, addresses: Addresses) -> Result<(), String> {
        let in_words = |error: io::Error| error.to_string();
        let kind = socket.r#type().map_err(in_words)?;
        let bound = socket.local_addr().map_err(in_words)?;
        let bound = bound.as_socket().ok_or("its address is no IP address")?;
        let of = |purpose| match purpose {
            Purpose::Tcp => addresses.tcp,
            Purpose::Udp => addresses.udp,
            Purpose::Http => addresses.http,
        };
        let mut fitting = Purpose::ALL.into_iter().filter(|it| it.kind() == kind);
        let named = Purpose::ALL.into_iter().find(|it| it.name() == name);
        let by_address = fitting.clone().find(|it| of(*it) == bound);
        let free = || fitting.find(|it| self.slot(*it).is_none());
        let Some(purpose) = named.or(by_address).or_else(free) else {
            return Err("there is no further use for a socket of its kind".to_owned());
        };
        if purpose.kind() != kind {
            return Err(format!("its kind does not fit server.{}", purpose.name()));
        }
        let configured = of(purpose);
        if configured.ip().is_loopback() && !bound.ip().is_loopback() {
            return Err(format!(
                "it is bound to {bound}, and server.{} is {configured}, which other machines do \
                 not reach: set server.{} to {bound}",
                purpose.name(),
                purpose.name(),
            ));
        }
        match self.slot(purpose).replace(socket) {
            None => Ok(()),
            Some(_) => Err(format!(
                "it is the second one for server.{}",
                purpose.name()
            )),
        }
    }

    fn slot(&mut self, purpose: Purpose) -> &mut Option<Socket> {
        match purpose {
            Purpose::Tcp => &mut self.tcp,
            Purpose::Udp => &mut self.udp,
            Purpose::Http => &mut self.http,
        }
    }
}

/// Purposes and addresses, for the log.
impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("tcp", &self.tcp), ("udp", &self.udp), ("http", &self.http)];
        let given = all.iter().filter_map(|(name, socket)| {
            let bound = socket.as_ref()?.local_addr().ok()?.as_socket()?;
            Some(format!("{name} {bound}"))
        });
        f.write_str(&given.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn stream(addr: &str) -> Socket {
        TcpListener::bind(addr).unwrap().into()
    }

    fn datagram() -> Socket {
        UdpSocket::bind("127.0.0.1:0").unwrap().into()
    }

    fn addresses() -> Addresses {
        let any = "127.0.0.1:0".parse().unwrap();
        Addresses {
            tcp: any,
            udp: any,
            http: any,
        }
    }

    fn bound(socket: &Socket) -> SocketAddr {
        socket.local_addr().unwrap().as_socket().unwrap()
    }

    fn sort(sockets: Vec<(Socket, &str)>) -> Result<Inherited, String> {
        let named = sockets.into_iter().map(|(it, name)| (it, name.to_owned()));
        Inherited::sort(named.collect(), addresses()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_come_first_then_kinds_in_order() {
        let (http, tcp) = (stream("127.0.0.1:0"), stream("127.0.0.1:0"));
        let (at, other) = (bound(&http), bound(&tcp));
        let sorted = sort(vec![(http, "http"), (datagram(), "x"), (tcp, "x")]).unwrap();
        assert_eq!(bound(sorted.http.as_ref().unwrap()), at);
        assert_eq!(bound(sorted.tcp.as_ref().unwrap()), other);
        assert!(sorted.udp.is_some());
        let first = stream("127.0.0.1:0");
        let at = bound(&first);
        let sorted = sort(vec![(first, "unknown"), (stream("127.0.0.1:0"), "unknown")]).unwrap();
        assert_eq!(bound(sorted.tcp.as_ref().unwrap()), at);
        assert!(sorted.http.is_some() && sorted.udp.is_none());
    }

    #[test]
    fn a_configured_address_decides_without_a_name() {
        let socket = stream("127.0.0.1:0");
        let mut addresses = addresses();
        addresses.http = bound(&socket);
        let sorted = Inherited::sort(vec![(socket, String::new())], addresses).unwrap();
        assert!(sorted.http.is_some() && sorted.tcp.is_none());
    }

    #[test]
    fn sockets_without_a_use_are_refused() {
        let two = || vec![(datagram(), "x"), (datagram(), "y")];
        let error = sort(two()).unwrap_err();
        assert!(error.starts_with("inherited socket 1 (\"y\"): there is no further use"));
        let error = sort(vec![(datagram(), "tcp")]).unwrap_err();
        assert!(
            error.ends_with("its kind does not fit server.tcp"),
            "{error}"
        );
        let twice = vec![
            (stream("127.0.0.1:0"), "tcp"),
            (stream("127.0.0.1:0"), "tcp"),
        ];
        assert!(
            sort(twice)
                .unwrap_err()
                .ends_with("it is the second one for server.tcp")
        );
        let error = sort(vec![(stream("0.0.0.0:0"), "tcp")]).unwrap_err();
        assert!(
            error.contains("which other machines do not reach"),
            "{error}"
        );
    }
}
