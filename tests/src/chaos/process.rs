//! One program that is killed, paused, and started anew as the launcher would do it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::thalweg;

// The launcher's: see `supervise` in `compose`.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Exit codes that starting anew does not help.
const HOPELESS: [i32; 2] = [64, 65];

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 40;

/// A program, whichever life of its it is.
pub struct Process {
    /// Its name.
    pub name: String,
    /// How often it has died.
    pub deaths: usize,
    arguments: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
    started: Instant,
    backoff: Duration,
}

impl Process {
    /// Makes a program of the launcher's; [`Process::look`] starts it.
    pub fn new(name: &str, arguments: Vec<OsString>, logs: &Path) -> Process {
        Process {
            name: name.to_owned(),
            deaths: 0,
            arguments,
            log: logs.join(format!("{name}.log")),
            child: None,
            started: Instant::now(),
            backoff: Duration::ZERO,
        }
    }

    /// Starts it if it is due, and notices if it died.
    ///
    /// # Errors
    /// A program that ends without being told to, or with a code that means that a human is needed.
    pub fn look(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else {
            if self.backoff <= self.started.elapsed() {
                self.child = Some(self.spawn()?);
                self.started = Instant::now();
            }
            return Ok(());
        };
        if let Some(status) = child.try_wait()? {
            self.died(status)?;
        }
        Ok(())
    }

    fn died(&mut self, status: ExitStatus) -> Result<()> {
        let hopeless =
            status.success() || status.code().is_some_and(|code| HOPELESS.contains(&code));
        ensure!(
            !hopeless,
            "{} ended with {status}, after which the launcher gives up\n{}",
            self.name,
            self.tail()
        );
        self.deaths += 1;
        self.backoff = if HEALTHY_AFTER <= self.started.elapsed() {
            BACKOFF_MIN
        } else {
            (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX)
        };
        self.child = None;
        self.started = Instant::now();
        Ok(())
    }

    fn spawn(&self) -> Result<Child> {
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        // What it says goes through a pipe: a limit on the size of its files is none on its log.
        let (mut said, writer) = std::io::pipe()?;
        let mut command = Command::new(thalweg()?);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // It ends with us.
            .env("THALWEG_SUPERVISED_BY", std::process::id().to_string())
            .process_group(0);
        // SAFETY: `signal` may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // A file that may not grow is an error that a write returns, not the end of the process.
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                Ok(())
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        std::thread::spawn(move || std::io::copy(&mut said, &mut log));
        Ok(child)
    }

    /// Returns its number while it lives.
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.id() as i32)
    }

    /// Sends it a signal, if it lives.
    pub fn signal(&self, signal: i32) {
        if let Some(pid) = self.pid() {
            // SAFETY: sends a signal to a process that we started and have not waited for yet.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Ends it as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// A process that cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL);
        if let Some(child) = &mut self.child {
            let status = child.wait()?;
            // It may have ended by itself a moment before.
            self.died(status)?;
        }
        Ok(())
    }

    /// Says whether it has ended after it was told to.
    ///
    /// # Errors
    /// One that ended with a failure.
    pub fn has_stopped(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else {
            return Ok(true);
        };
        let Some(status) = child.try_wait()? else {
            return Ok(false);
        };
        self.child = None;
        if !status.success() {
            bail!("{} stopped with {status}\n{}", self.name, self.tail());
        }
        Ok(true)
    }

    /// Limits the size of the files that it writes; `None` lifts that.
    ///
    /// # Errors
    /// The system's.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        let limit = libc::rlimit {
            rlim_cur: bytes.unwrap_or(libc::RLIM_INFINITY),
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: a limit of a process that we started; the pointer is to a local.
        let set = unsafe {
            libc::prlimit(
                pid,
                libc::RLIMIT_FSIZE,
                &raw const limit,
                std::ptr::null_mut(),
            )
        };
        ensure!(
            set == 0,
            "cannot limit the files of {}: {}",
            self.name,
            std::io::Error::last_os_error()
        );
        Ok(())
    }

    /// Returns how long its log is.
    pub fn said(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// Says whether it has complained, since its log had a length, with one of these words.
    pub fn complained(&self, since: u64, of: &[&str]) -> bool {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let new =
            String::from_utf8_lossy(log.get(since as usize..).unwrap_or_default()).into_owned();
        let complaints = new.lines().filter(|line| {
            ["WARN", "ERROR", "error:"]
                .iter()
                .any(|word| line.contains(word))
        });
        complaints
            .into_iter()
            .any(|line| of.iter().any(|word| line.contains(word)))
    }

    /// Returns the end of its log.
    pub fn tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- {}\n{}", self.name, tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended already cannot be killed, and need not be.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
