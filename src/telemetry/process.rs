//! The process as the kernel sees it: CPU, memory, descriptors, threads.
//!
//! Read from `/proc/self` at each scrape. CPU time is written as text of our own, because the metrics crate
//! counts in whole numbers and a second is too coarse for a drill.

use std::fs;
use std::sync::LazyLock;

use super::{alloc, catalog};

/// Sets the gauges. What `/proc` does not tell (another operating system) is absent.
pub(super) fn collect() {
    if let Some(memory) = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| statm(&text))
    {
        catalog::process_virtual_memory_bytes().set(memory.0);
        catalog::process_resident_memory_bytes().set(memory.1);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // The listing itself holds one.
        catalog::process_open_fds().set(descriptors.count().saturating_sub(1) as f64);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    catalog::process_max_fds().set(limit.current.map_or(f64::INFINITY, |limit| limit as f64));
    if let Some(stat) = stat() {
        catalog::process_threads().set(stat.threads);
        catalog::process_start_time_seconds().set(*BOOT_TIME_S + stat.start_s);
        catalog::process_paging_faults_total("minor").absolute(stat.minor_faults);
        catalog::process_paging_faults_total("major").absolute(stat.major_faults);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        for (name, kind) in [
            ("voluntary_ctxt_switches:", "voluntary"),
            ("nonvoluntary_ctxt_switches:", "involuntary"),
        ] {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            if let Some(switches) = line.and_then(|count| count.trim().parse().ok()) {
                catalog::process_context_switches_total(kind).absolute(switches);
            }
        }
    }
    if let Some(held) = alloc::held() {
        catalog::firedrill_allocator_bytes("used").set(held.used);
        catalog::firedrill_allocator_bytes("free").set(held.free);
    }
}

/// Appends `process_cpu_seconds_total`.
pub(super) fn render(text: &mut String) {
    let cpu = stat().map(|stat| (String::new(), stat.cpu_s));
    catalog::write_counter(text, "process_cpu_seconds_total", cpu);
}

static BOOT_TIME_S: LazyLock<f64> = LazyLock::new(|| {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
    boot.and_then(|seconds| seconds.trim().parse().ok())
        .unwrap_or(0.0)
});

struct Stat {
    cpu_s: f64,
    threads: f64,
    start_s: f64,
    minor_faults: u64,
    major_faults: u64,
}

fn stat() -> Option<Stat> {
    parse_stat(
        &fs::read_to_string("/proc/self/stat").ok()?,
        rustix::param::clock_ticks_per_second(),
    )
}

fn parse_stat(text: &str, ticks_per_second: u64) -> Option<Stat> {
    // The command name, in parentheses, may hold spaces: count fields from behind it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let count = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = ticks_per_second as f64;
    Some(Stat {
        cpu_s: (number(11)? + number(12)?) / ticks,
        threads: number(17)?,
        start_s: number(19)? / ticks,
        minor_faults: count(7)?,
        major_faults: count(9)?,
    })
}

/// Virtual and resident size in bytes.
fn statm(text: &str) -> Option<(f64, f64)> {
    let page = rustix::param::page_size() as f64;
    let mut pages = text.split_whitespace().map(str::parse::<f64>);
    Some((pages.next()?.ok()? * page, pages.next()?.ok()? * page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_spaces_does_not_shift_the_fields() {
        let text = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 7 0 900 1 2";
        let stat = parse_stat(text, 100).unwrap();
        assert!((stat.cpu_s - 2.0).abs() < 1e-9);
        assert!((stat.threads - 7.0).abs() < 1e-9);
        assert!((stat.start_s - 9.0).abs() < 1e-9);
        assert_eq!((stat.minor_faults, stat.major_faults), (7, 9));
    }
}
