//! The worker gives up what it does not need before it opens a file of a stranger's: the network, other files and their
//! rights, other programs and processes, more memory than it was given. Then it tries what should no longer work, and
//! reports what it found.

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
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };

    /// Files that the worker may have open: pipes, a few models and their heads.
    const OPEN_FILES: u64 = 64;

    /// Calls that reach other machines, other programs or other processes, or what Landlock leaves to the user whose program
    /// this is: rights and owners of files, shared memory, keys of the kernel. They answer "not permitted", so that a library
    /// that tries one goes on without. `io_uring` is among them because it can do all the others.
    const FORBIDDEN: &[libc::c_long] = &[
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
        libc::SYS_process_madvise,
        libc::SYS_process_mrelease,
        libc::SYS_kcmp,
        libc::SYS_migrate_pages,
        libc::SYS_move_pages,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_perf_event_open,
        libc::SYS_open_by_handle_at,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        FCHMODAT2,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_utimensat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_fremovexattr,
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_semget,
        libc::SYS_msgget,
        libc::SYS_mq_open,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
    ];

    /// The same number on every processor; not every version of `libc` names it.
    const FCHMODAT2: libc::c_long = 452;

    /// Older forms of calls above, which this processor still has.
    #[cfg(target_arch = "x86_64")]
    const FORBIDDEN_HERE: &[libc::c_long] = &[
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_futimesat,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const FORBIDDEN_HERE: &[libc::c_long] = &[];

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
        let whole = FORBIDDEN.iter().chain(FORBIDDEN_HERE);
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            whole.map(|&call| (call, Vec::new())).collect();
        // A thread that gives up sends itself a signal, and every thread asks for its own limits.
        rules.insert(libc::SYS_tgkill, vec![unless(std::process::id())?]);
        rules.insert(libc::SYS_prlimit64, vec![unless(0)?]);
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let refusal = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, arch)?;
        let filter: BpfProgram = filter.try_into()?;
        let program = [other_numbers(), filter].concat();
        // Also promises that no later program gains privileges.
        seccompiler::apply_filter_all_threads(&program)?;
        Ok(())
    }

    /// Forbids a call whose first argument is another process than this one.
    fn unless(process: u32) -> Result<SeccompRule, Box<dyn Error>> {
        let other = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Ne,
            u64::from(process),
        )?;
        Ok(SeccompRule::new(vec![other])?)
    }

    /// Some kernels know every call by a second number (the x32 interface), which a list of numbers would let through.
    #[cfg(target_arch = "x86_64")]
    fn other_numbers() -> BpfProgram {
        use seccompiler::sock_filter;

        const X32: u32 = 0x4000_0000;
        let step = |code: u32, if_not: u8, k: u32| sock_filter {
            code: code as u16,
            jt: 0,
            jf: if_not,
            k,
        };
        vec![
            // The number of the call stands first in what a filter sees.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
            step(
                libc::BPF_RET | libc::BPF_K,
                0,
                libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            ),
        ]
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn other_numbers() -> BpfProgram {
        Vec::new()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::ffi::{CStr, CString};
    use std::process::Command;

    /// Names a file to the process that confines itself: what is given up does not come back.
    const CONFINED: &str = "DECENTRALGPT_TEST_CONFINED";

    #[test]
    fn what_the_worker_gives_up_is_refused() {
        if let Some(file) = std::env::var_os(CONFINED) {
            return confined(&CString::new(file.into_encoded_bytes()).unwrap());
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let program = std::env::current_exe().unwrap();
        let confined = Command::new(program)
            .args([
                "--exact",
                "sandbox::tests::what_the_worker_gives_up_is_refused",
            ])
            .args(["--test-threads", "1", "--nocapture"])
            .env(CONFINED, file.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&confined.stdout);
        let erred = String::from_utf8_lossy(&confined.stderr);
        assert!(
            confined.status.success() && said.contains("1 passed"),
            "{said}{erred}"
        );
    }

    fn confined(path: &CStr) {
        let parent = i64::from(std::os::unix::process::parent_id());
        let own = i64::from(std::process::id());
        super::confine(&[], None);
        let call = |number: i64, arguments: [i64; 4]| {
            let [a, b, c, d] = arguments;
            // SAFETY: the only pointer among the arguments is to a string that outlives the call.
            #[allow(unsafe_code)]
            let failed = unsafe { libc::syscall(number, a, b, c, d) } < 0;
            failed.then(|| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
        };
        let here = i64::from(libc::AT_FDCWD);
        let name = path.as_ptr() as i64;
        for (what, number, arguments) in [
            ("a signal to the app", libc::SYS_kill, [parent, 0, 0, 0]),
            (
                "the same by a thread",
                libc::SYS_tgkill,
                [parent, parent, 0, 0],
            ),
            (
                "a handle of the app",
                libc::SYS_pidfd_open,
                [parent, 0, 0, 0],
            ),
            ("limits of the app", libc::SYS_prlimit64, [parent, 7, 0, 0]),
            (
                "rights of a file",
                libc::SYS_fchmodat,
                [here, name, 0o666, 0],
            ),
            ("the same, newer", 452, [here, name, 0o666, 0]),
            ("times of a file", libc::SYS_utimensat, [here, name, 0, 0]),
            (
                "shared memory",
                libc::SYS_shmget,
                [0, 4096, 0o600 | 0o1000, 0],
            ),
            ("keys of the kernel", libc::SYS_keyctl, [0, -3, 0, 0]),
        ] {
            assert_eq!(call(number, arguments), Some(libc::EPERM), "{what}");
        }
        if cfg!(target_arch = "x86_64") {
            let by_the_other_number = libc::SYS_getpid | 0x4000_0000;
            assert_eq!(call(by_the_other_number, [0; 4]), Some(libc::EPERM));
        }
        // What a thread does with itself stays.
        assert_eq!(call(libc::SYS_tgkill, [own, own, 0, 0]), None);
        assert_eq!(call(libc::SYS_prlimit64, [0, 7, 0, 0]), None);
    }
}
