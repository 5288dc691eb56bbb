//! What a process has used, from `/proc`.

use std::fs;
use std::time::Duration;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Most resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// Processor time, user and system.
    pub cpu: Duration,
}

impl Usage {
    /// Looks at a process; what it has used never goes down.
    pub(super) fn sample(&mut self, pid: u32) {
        if let Some(peak) = fs::read_to_string(format!("/proc/{pid}/status"))
            .ok()
            .as_deref()
            .and_then(peak)
        {
            self.peak_rss_bytes = self.peak_rss_bytes.max(peak);
        }
        if let Some(cpu) = fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .as_deref()
            .and_then(cpu)
        {
            self.cpu = self.cpu.max(cpu);
        }
    }

    /// Adds a later life of the same program.
    pub(super) fn and(self, later: Usage) -> Usage {
        let peak_rss_bytes = self.peak_rss_bytes.max(later.peak_rss_bytes);
        Usage {
            peak_rss_bytes,
            cpu: self.cpu + later.cpu,
        }
    }
}

/// Reads the most resident memory out of `/proc/PID/status`.
fn peak(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Reads the processor time out of `/proc/PID/stat`; its second field may contain anything but ends with `)`.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        assert_eq!(peak("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(peak("Name:\tx\n"), None);
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert!(cpu(stat).is_some_and(|cpu| Duration::ZERO < cpu));
        assert_eq!(cpu("garbage"), None);
        let mut own = Usage::default();
        own.sample(std::process::id());
        assert!(0 < own.peak_rss_bytes);
    }
}
