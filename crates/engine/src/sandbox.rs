//! The worker gives up what it does not need before it opens a file of a stranger's: the network, other files, other
//! programs, more memory than it was given. Then it tries what should no longer work, and reports what it found.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;

use crate::Isolation;

/// Confines the calling thread and all that it starts later. Each step is as good as the system allows; what counts is
/// the measurement.
pub(crate) fn confine(readable: &[PathBuf], memory_cap: Option<u64>) -> Isolation {
    #[cfg(target_os = "linux")]
    {
        linux::limit(memory_cap);
        if let Err(error) = linux::only_read(readable) {
            eprintln!("files stay open to this process: {error}");
        }
        if let Err(error) = linux::forbid_calls() {
            eprintln!("system calls stay open to this process: {error}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (readable, memory_cap);
    measure()
}

/// Tries to use the network and files that no model needs.
fn measure() -> Isolation {
    let denied = |error: Option<std::io::Error>| {
        error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    let sockets = [
        UdpSocket::bind(("127.0.0.1", 0)).err(),
        TcpListener::bind(("127.0.0.1", 0)).err(),
    ];
    let files = [
        File::open("/etc/passwd").err(),
        std::fs::read_dir("/").err(),
        File::options().write(true).open("/dev/null").err(),
    ];
    Isolation {
        network: sockets.into_iter().all(denied),
        files: cfg!(unix) && files.into_iter().all(denied),
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::error::Error;
    use std::path::PathBuf;

    use landlock::{
        ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus,
    };
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

    /// Files that the worker may have open: pipes, a few models and their heads.
    const OPEN_FILES: u64 = 64;

    /// Calls that reach other machines, other programs or other processes. They answer "not permitted", so that a library
    /// that tries one goes on without. `io_uring` is among them because it can do all the others.
    const FORBIDDEN: [libc::c_long; 24] = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_perf_event_open,
    ];

    pub(super) fn limit(memory_cap: Option<u64>) {
        let set = |resource, value: u64| {
            let limit = libc::rlimit {
                rlim_cur: value,
                rlim_max: value,
            };
            // SAFETY: the call reads the struct that lives until it returns.
            #[allow(unsafe_code)]
            let failed = unsafe { libc::setrlimit(resource, &limit) } != 0;
            if failed {
                eprintln!(
                    "a limit could not be set: {}",
                    std::io::Error::last_os_error()
                );
            }
        };
        // A dump of this process would hold what somebody asked.
        set(libc::RLIMIT_CORE, 0);
        set(libc::RLIMIT_NOFILE, OPEN_FILES);
        if let Some(cap) = memory_cap {
            // What it allocates; mapped model files are not counted here.
            set(libc::RLIMIT_DATA, cap);
        }
    }

    /// From here on only `readable` can be opened, and only to be read.
    pub(super) fn only_read(readable: &[PathBuf]) -> Result<(), Box<dyn Error>> {
        let abi = ABI::V5;
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(abi))?
            .create()?;
        for path in readable {
            // A folder that is not there (yet) cannot be read anyway.
            let Ok(opened) = PathFd::new(path) else {
                continue;
            };
            let access = if path.is_dir() {
                AccessFs::ReadFile | AccessFs::ReadDir
            } else {
                AccessFs::ReadFile.into()
            };
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
        match rules.restrict_self()?.ruleset {
            RulesetStatus::NotEnforced => Err("this kernel has no landlock".into()),
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        }
    }

    pub(super) fn forbid_calls() -> Result<(), Box<dyn Error>> {
        let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
            FORBIDDEN.iter().map(|&call| (call, Vec::new())).collect();
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let refusal = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, arch)?;
        let program: BpfProgram = filter.try_into()?;
        // Also promises that no later program gains privileges.
        seccompiler::apply_filter_all_threads(&program)?;
        Ok(())
    }
}
