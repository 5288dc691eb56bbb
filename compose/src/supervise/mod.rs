//! Runs programs as child processes: starts them, starts them anew when they die, stops them together.
//!
//! One thread owns the children from first to last, since a child is told of its parent's death by the death
//! of the thread that started it. A child leads its own process group: Ctrl-C at the terminal reaches the
//! launcher alone, which then lets the workers drain before the broker goes.

mod usage;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

pub use usage::Usage;

/// Tells a child who started it.
const PARENT_VARIABLE: &str = "THALWEG_SUPERVISED_BY";
/// How often children are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A child that lived this long is not blamed for how often it died before.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long a child may take to stop; workers themselves take at most 30 s.
const GRACE: Duration = Duration::from_secs(35);
/// Exit codes that starting anew does not help: bad options, and data that only a human can mend.
const HOPELESS: [i32; 2] = [64, 65];

/// A program to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, and the command of this executable that it is.
    pub name: &'static str,
    /// Its options.
    pub options: Vec<OsString>,
    /// Where its output goes; `None` is where the launcher's goes.
    pub log: Option<PathBuf>,
}

/// What happened to a child.
#[derive(Clone, Debug)]
pub enum Event {
    /// It was started.
    Started(&'static str, u32),
    /// It ended by itself, and is started anew after a pause.
    Died(&'static str, ExitStatus, Duration),
}

/// Runs programs until it is told to stop.
pub struct Supervisor {
    stop: SyncSender<()>,
    thread: JoinHandle<Result<()>>,
    usage: Arc<Mutex<Vec<(&'static str, Usage)>>>,
}

impl Supervisor {
    /// Starts the programs; `on_event` hears what happens to them.
    pub fn start(programs: Vec<Program>, on_event: Box<dyn Fn(Event) + Send>) -> Supervisor {
        let (stop, stopping) = sync_channel(1);
        let usage: Vec<_> = programs
            .iter()
            .map(|program| (program.name, Usage::default()))
            .collect();
        let usage = Arc::new(Mutex::new(usage));
        let shared = usage.clone();
        let thread = std::thread::spawn(move || {
            let children = programs.into_iter().map(Supervised::new).collect();
            Watch {
                children,
                on_event,
                usage: shared,
            }
            .run(&stopping)
        });
        Supervisor {
            stop,
            thread,
            usage,
        }
    }

    /// Says whether it still runs; if not, [`Supervisor::stop`] says why.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Returns what each program has used so far, its earlier lives included.
    pub fn usage(&self) -> Vec<(&'static str, Usage)> {
        self.usage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Stops the programs and waits for them.
    ///
    /// # Errors
    /// A program that could not be started, gave up, or had to be killed.
    pub fn stop(self) -> Result<()> {
        // A supervisor that gave up does not listen.
        let _ = self.stop.try_send(());
        match self.thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("the supervisor died"),
        }
    }
}

/// Asks the kernel to end this process when the launcher that started it dies; no more than a look at the
/// environment in a process that no launcher started.
///
/// # Errors
/// A launcher that is dead already.
pub fn die_with_parent() -> Result<()> {
    let Ok(parent) = std::env::var(PARENT_VARIABLE) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::TERM))
        .context("cannot ask to be told of the launcher's death")?;
    let alive = getppid().is_some_and(|pid| pid.as_raw_nonzero().to_string() == parent);
    if alive {
        Ok(())
    } else {
        bail!("the launcher has died")
    }
}

struct Watch {
    children: Vec<Supervised>,
    on_event: Box<dyn Fn(Event) + Send>,
    usage: Arc<Mutex<Vec<(&'static str, Usage)>>>,
}

struct Supervised {
    program: Program,
    child: Option<Child>,
    started: Instant,
    backoff: Duration,
    earlier: Usage,
    now: Usage,
}

impl Watch {
    fn run(&mut self, stopping: &Receiver<()>) -> Result<()> {
        let ended = loop {
            if let Err(error) = self
                .children
                .iter_mut()
                .try_for_each(|child| child.look(&self.on_event))
            {
                break Err(error);
            }
            let used = self
                .children
                .iter()
                .map(|child| (child.program.name, child.usage()))
                .collect();
            *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = used;
            match stopping.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
        };
        let stopped = self.stop();
        ended.and(stopped)
    }

    fn stop(&mut self) -> Result<()> {
        self.children
            .iter()
            .for_each(|child| child.signal(Signal::TERM));
        let deadline = Instant::now() + GRACE;
        let mut killed = Vec::new();
        for child in &mut self.children {
            if !child.wait(deadline) {
                child.signal(Signal::KILL);
                child.wait(Instant::now() + GRACE);
                killed.push(child.program.name);
            }
        }
        if killed.is_empty() {
            Ok(())
        } else {
            bail!("{} did not stop within {GRACE:?}", killed.join(", "))
        }
    }
}

impl Supervised {
    fn new(program: Program) -> Supervised {
        let now = Instant::now();
        let (earlier, usage) = (Usage::default(), Usage::default());
        Supervised {
            program,
            child: None,
            started: now,
            backoff: Duration::ZERO,
            earlier,
            now: usage,
        }
    }

    /// Starts the child if it is due, and notices if it died.
    fn look(&mut self, on_event: &dyn Fn(Event)) -> Result<()> {
        let name = self.program.name;
        let Some(child) = &mut self.child else {
            if self.backoff <= self.started.elapsed() {
                let child = spawn(&self.program).with_context(|| format!("cannot start {name}"))?;
                on_event(Event::Started(name, child.id()));
                self.child = Some(child);
                self.started = Instant::now();
            }
            return Ok(());
        };
        self.now.sample(child.id());
        let Some(status) = child
            .try_wait()
            .with_context(|| format!("cannot look after {name}"))?
        else {
            return Ok(());
        };
        if status.code().is_some_and(|code| HOPELESS.contains(&code)) {
            self.child = None;
            bail!("{name} gave up ({status}); see {}", self.log_name());
        }
        let lived = self.started.elapsed();
        self.backoff = next_backoff(self.backoff, lived);
        self.earlier = self.usage();
        self.now = Usage::default();
        self.child = None;
        self.started = Instant::now();
        on_event(Event::Died(name, status, self.backoff));
        Ok(())
    }

    fn log_name(&self) -> String {
        self.program
            .log
            .as_ref()
            .map_or("its output above".to_owned(), |log| {
                log.display().to_string()
            })
    }

    fn usage(&self) -> Usage {
        self.earlier.and(self.now)
    }

    fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .as_ref()
            .and_then(|child| Pid::from_raw(child.id() as i32));
        if let Some(pid) = pid {
            // It may have ended meanwhile; it is still ours to wait for, so the number is nobody else's.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the child's end; says no if the deadline came first.
    fn wait(&mut self, deadline: Instant) -> bool {
        let Some(child) = &mut self.child else {
            return true;
        };
        loop {
            self.now.sample(child.id());
            if !matches!(child.try_wait(), Ok(None)) {
                self.child = None;
                return true;
            }
            if deadline <= Instant::now() {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Returns the pause before a child that died is started anew: doubled each time, until it lives long enough.
fn next_backoff(last: Duration, lived: Duration) -> Duration {
    if HEALTHY_AFTER <= lived {
        BACKOFF_MIN
    } else {
        (last * 2).clamp(BACKOFF_MIN, BACKOFF_MAX)
    }
}

fn spawn(program: &Program) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(program.name)
        .args(&program.options)
        .stdin(Stdio::null())
        .process_group(0);
    command.env(PARENT_VARIABLE, std::process::id().to_string());
    if let Some(log) = &program.log {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
    } else {
        // What the launcher prints on stdout may be for a program.
        command.stdout(std::io::stderr());
    }
    Ok(command.spawn()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_a_child_lives() {
        let short = Duration::from_secs(1);
        let mut pause = Duration::ZERO;
        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                pause = next_backoff(pause, short);
                pause.as_millis() as u64
            })
            .collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(next_backoff(pause, HEALTHY_AFTER), BACKOFF_MIN);
    }
}
