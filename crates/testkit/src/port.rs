//! Ports of the loopback interface that only the server gets for which they were taken.
//!
//! A server that starts once binds port 0 and says in its log which port it got (`Server::start_on_any_port`). A server
//! that restarts, or that others are told of before it starts, needs a port that is known beforehand; so does `mariadbd`,
//! which takes port 0 for its default port, 3306, and a server of the bench, whose log says nothing below a warning. A port
//! that was merely looked up could be gone before the server binds it. So the port stays bound until the test process
//! ends, by a socket that does not listen: the kernel then gives it to no other socket that asks for any port, and to no
//! outgoing connection. A server may bind it all the same, because both sides set `SO_REUSEADDR`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// They are closed with the process.
static RESERVED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 on which nobody listens, reserved until this process ends.
pub fn free_port() -> u16 {
    let (socket, port) = reserve().expect("no free port");
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    port
}

fn reserve() -> Result<(OwnedFd, u16)> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let address = SocketAddrV4::try_from(getsockname(&socket)?)?;
    Ok((socket, address.port()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_server_can_bind_a_free_port_again_and_again_and_nobody_else_can() {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port());
        for _ in 0..2 {
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let other =
                socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            assert_eq!(bind(&other, &address).unwrap_err(), rustix::io::Errno::ADDRINUSE);
            // The standard library's listeners set `SO_REUSEADDR`.
            let server = TcpListener::bind(address).unwrap();
            TcpStream::connect(address).unwrap();
            drop(server);
        }
    }

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: BTreeSet<_> = (0..500).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 500);
    }
}
