//! A network namespace with one TUN device in it, and the thread that lives there.
//!
//! A namespace is a thread's: programs, threads and sockets that are started from it live in the same one. So whoever wants
//! something done there hands it to the thread.

use std::{
    fs::{File, OpenOptions},
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
    sync::mpsc,
    thread::JoinHandle,
};

use nix::sched::{CloneFlags, unshare};

/// Every address that the lab uses lies in the upper half of all: one mask reaches them without a route.
const MASK: Ipv4Addr = Ipv4Addr::new(128, 0, 0, 0);
/// Work that waits for the thread: its callers wait for each piece, so there is hardly ever more than one.
const WORK: usize = 8;

type Work = Box<dyn FnOnce() + Send>;

/// See the module. Ends with the last program in it.
#[derive(Debug)]
pub struct Namespace {
    work: Option<mpsc::SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// A new one, whose only way out is the device in the other half of the answer. It has this address.
    ///
    /// # Errors
    /// Where the system does not let us make one.
    pub fn new(address: Ipv4Addr) -> io::Result<(Self, File)> {
        let (work, inbox) = mpsc::sync_channel::<Work>(WORK);
        let (made, ready) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("ns {address}"))
            .spawn(move || {
                let device = enter(address);
                let failed = device.is_err();
                if made.send(device).is_err() || failed {
                    return;
                }
                for work in inbox {
                    work();
                }
            })?;
        let device = ready
            .recv()
            .map_err(|_| io::Error::other("the thread of a namespace ended"))??;
        let namespace = Self {
            work: Some(work),
            thread: Some(thread),
        };
        Ok((namespace, device))
    }

    /// Does this inside, and waits for it.
    ///
    /// # Errors
    /// When it panicked.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = mpsc::sync_channel(1);
        let gone = || io::Error::other("the thread of a namespace ended");
        self.work
            .as_ref()
            .ok_or_else(gone)?
            .send(Box::new(move || {
                // The caller waits, so that it is there.
                let _ = done.send(work());
            }))
            .map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes the calling thread into a new namespace, and brings its devices up.
fn enter(address: Ipv4Addr) -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let name = b"tun0";
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    control(&device, libc::TUNSETIFF, &mut request)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    up(&socket, b"lo")?;
    set(&socket, name, libc::SIOCSIFADDR, address)?;
    set(&socket, name, libc::SIOCSIFNETMASK, MASK)?;
    up(&socket, name)?;
    Ok(device)
}

fn request(name: &[u8]) -> libc::ifreq {
    // SAFETY: a plain C structure of numbers and bytes, for which zeroes are a value.
    #[allow(unsafe_code)]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The name ends at its first zero, which the structure is full of.
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    request
}

fn set(socket: &UdpSocket, name: &[u8], what: libc::c_ulong, address: Ipv4Addr) -> io::Result<()> {
    let mut request = request(name);
    let mut data = [0 as libc::c_char; 14];
    // Behind the family: a port of two bytes, then the address.
    for (to, from) in data.iter_mut().skip(2).zip(address.octets()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_addr = libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    };
    control(socket, what, &mut request)
}

fn up(socket: &UdpSocket, name: &[u8]) -> io::Result<()> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    control(socket, libc::SIOCSIFFLAGS, &mut request)
}

fn control(on: &impl AsRawFd, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the descriptor is open while `on` lives, and each of the requests used here reads one `ifreq`, which the pointer is
    // to; TUNSETIFF writes the name back into it.
    #[allow(unsafe_code)]
    let done = unsafe { libc::ioctl(on.as_raw_fd(), what as libc::Ioctl, request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
