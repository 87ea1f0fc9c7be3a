//! A port of this machine's loopback, reached from the loopback of a namespace: a chain node lives outside of every namespace, and the
//! programs inside ask it as if it were beside them. Nothing of that passes the switch.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    thread,
};

use super::namespace::Namespace;

/// Opens the port in there, for as long as this program runs.
///
/// # Errors
/// Where something listens there already.
pub fn open(namespace: &Namespace, port: u16) -> io::Result<()> {
    // A socket belongs to where it was made, whichever thread uses it.
    let listener = namespace.run(move || TcpListener::bind((Ipv4Addr::LOCALHOST, port)))??;
    thread::Builder::new()
        .name(format!("door {port}"))
        .spawn(move || {
            for inside in listener.incoming().map_while(Result::ok) {
                // Who cannot be reached is told so by the end of its connection.
                let _ = carry(inside, port);
            }
        })?;
    Ok(())
}

/// Both ways, until each side has said its last.
fn carry(inside: TcpStream, port: u16) -> io::Result<()> {
    let outside = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (answers, back) = (outside.try_clone()?, inside.try_clone()?);
    for (mut from, mut to) in [(inside, outside), (answers, back)] {
        thread::Builder::new()
            .name(format!("door {port}"))
            .spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            })?;
    }
    Ok(())
}
