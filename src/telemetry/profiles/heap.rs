//! The heap profile: who asked for the memory that is held right now.
//!
//! Only jemalloc can tell, and only in a build with the feature of that name: it notes the stack of one allocation in
//! each 512 KiB on average, from the start, which costs next to nothing. What it notes is scaled up to what was
//! really held. It tells of memory that our Rust code asks for: SQLite, which is C, asks the system.

use super::{NotTaken, Profile};

/// Tells who holds the memory now. Blocks.
#[cfg(not(feature = "jemalloc"))]
pub fn heap() -> Result<Profile, NotTaken> {
    let how = "This build uses the system's allocator, which cannot tell. Build with `cargo build --release --features jemalloc`; the container image is built so.";
    Err(NotTaken::Unavailable(how.into()))
}

#[cfg(feature = "jemalloc")]
pub use jemalloc::heap;

#[cfg(feature = "jemalloc")]
mod jemalloc {
    #![expect(
        unsafe_code,
        reason = "jemalloc is told through C's symbols and pointers; each use says why it is sound"
    )]

    use std::collections::HashMap;
    use std::ffi::{CString, c_char};
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::os::fd::AsRawFd;
    use std::time::{Duration, SystemTime};

    use super::super::{OneAtATime, Stack, images};
    use super::{NotTaken, Profile};

    /// What jemalloc reads before the first allocation, under the name that its prefixed build looks for.
    // SAFETY: jemalloc declares this symbol as a weak `const char *`; a pointer to a text with its end is that.
    #[used]
    #[unsafe(export_name = "_rjem_malloc_conf")]
    static CONFIGURATION: Configuration =
        Configuration(c"prof:true,prof_active:true,lg_prof_sample:19".as_ptr());

    #[repr(transparent)]
    struct Configuration(*const c_char);

    // SAFETY: it points to a constant that nobody writes to.
    unsafe impl Sync for Configuration {}

    static TURN: OneAtATime = OneAtATime::new();

    /// Tells who holds the memory now. Blocks.
    pub fn heap() -> Result<Profile, NotTaken> {
        let turn = TURN.take().ok_or(NotTaken::Busy)?;
        let unavailable = |error: std::io::Error| NotTaken::Unavailable(error.to_string());
        let images = images::of_this_process().map_err(unavailable)?;
        let began = SystemTime::now();
        let dump = dump().map_err(unavailable)?;
        let (period, stacks) = parse(&dump).ok_or_else(|| {
            NotTaken::Unavailable("jemalloc's answer could not be read.".to_owned())
        })?;
        let mut profile = Profile {
            measures: vec![("inuse_objects", "count"), ("inuse_space", "bytes")],
            period,
            began,
            lasted: Duration::ZERO,
            stacks,
            images,
            used: Duration::ZERO,
            remarks: Vec::new(),
            _turn: turn,
        };
        leave_out_the_allocator(&mut profile);
        Ok(profile)
    }

    /// Takes the allocator's own calls off each stack: they are the same everywhere, and hide who asked.
    fn leave_out_the_allocator(profile: &mut Profile) {
        let names = profile.names();
        let is_allocator = |address: &u64| {
            // The function itself, not what was merged into it: a caller of the allocator stays.
            let outermost = names.get(address).and_then(|functions| functions.last());
            outermost.is_some_and(|function| {
                let name = &function.name;
                name.starts_with("_rjem_")
                    || name.contains("__rust_alloc")
                    || name.contains("__rust_realloc")
            })
        };
        for (mut stack, values) in std::mem::take(&mut profile.stacks) {
            let inner = stack.addresses.iter().rposition(is_allocator);
            stack.addresses.drain(..inner.map_or(0, |index| index + 1));
            let sums = profile
                .stacks
                .entry(stack)
                .or_insert_with(|| vec![0; values.len()]);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        }
    }

    /// Lets jemalloc write down what it noted: to memory, because there may be no disk that can be written to.
    fn dump() -> std::io::Result<String> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("heap", flags)?);
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .expect("a number holds no zero byte");
        // SAFETY: `prof.dump` takes a pointer to a text with its end, which lives until the call returns.
        unsafe { tikv_jemalloc_ctl::raw::write(b"prof.dump\0", path.as_ptr()) }
            .map_err(|error| std::io::Error::other(format!("jemalloc refused: {error}")))?;
        let mut text = String::new();
        file.rewind()?;
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Reads jemalloc's text: first the bytes between two notes, then stacks, each with a line of what it holds.
    fn parse(text: &str) -> Option<(i64, HashMap<Stack, Vec<i64>>)> {
        let (head, text) = text.split_once('\n')?;
        let period: i64 = head.strip_prefix("heap_v2/")?.parse().ok()?;
        let mut stacks = HashMap::new();
        for entry in text.split("\n@ ").skip(1) {
            let mut lines = entry.lines();
            let addresses = lines
                .next()?
                .split_ascii_whitespace()
                // An address is where the callee returns to; the call stands before it.
                .map(|address| {
                    u64::from_str_radix(address.trim_start_matches("0x"), 16)
                        .map(|address| address.saturating_sub(1))
                })
                .collect::<Result<_, _>>()
                .ok()?;
            let held = lines.next()?.trim().strip_prefix("t*:")?;
            let mut numbers = held
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|number| number.parse().ok());
            let values = scale(numbers.next()?, numbers.next()?, period as f64);
            let thread = String::new();
            stacks.insert(Stack { addresses, thread }, values);
        }
        Some((period, stacks))
    }

    /// How much a stack held, from the part of it that was noted: an allocation of `size` bytes is noted with a
    /// probability of 1 - e^(-size / period).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bytes in use are far below 2^63"
    )]
    fn scale(objects: f64, bytes: f64, period: f64) -> Vec<i64> {
        if objects < 1.0 {
            return vec![0, 0];
        }
        let noted = -(-(bytes / objects) / period).exp_m1();
        vec![
            (objects / noted).round() as i64,
            (bytes / noted).round() as i64,
        ]
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_was_noted_is_scaled_to_what_was_held() {
            let text = "heap_v2/524288\n  t*: 3: 1572864 [0: 0]\n  t0: 3: 1572864 [0: 0]\n\
                @ 0x11 0x21\n  t*: 1: 524288 [0: 0]\n  t0: 1: 524288 [0: 0]\n\
                @ 0x31\n  t*: 0: 0 [0: 0]\n\nMAPPED_LIBRARIES:\n";
            let (period, stacks) = parse(text).unwrap();
            assert_eq!(period, 524_288);
            let of = |addresses: &[u64]| {
                let thread = String::new();
                stacks[&Stack {
                    addresses: addresses.to_vec(),
                    thread,
                }]
                    .clone()
            };
            // 1 / (1 - 1/e)
            assert_eq!(of(&[0x10, 0x20]), [2, 829_411]);
            assert_eq!(of(&[0x30]), [0, 0]);
        }

        #[test]
        fn memory_that_is_held_shows_with_who_asked_for_it() {
            let held = hold_memory();
            let profile = heap().unwrap();
            let names = profile.names();
            let by_us: i64 = profile
                .stacks
                .iter()
                .filter(|(stack, _)| {
                    let functions = stack.addresses.iter().flat_map(|address| &names[address]);
                    functions
                        .into_iter()
                        .any(|f| f.name.contains("hold_memory"))
                })
                .map(|(_, values)| values[1])
                .sum();
            let mut calls = names.values().flatten();
            assert!(!calls.any(|function| function.name.starts_with("_rjem_")));
            let expected = i64::try_from(held.len()).unwrap();
            assert!(
                (expected / 2..expected * 2).contains(&by_us),
                "{by_us} of {expected}"
            );
        }

        #[inline(never)]
        fn hold_memory() -> Vec<u8> {
            std::hint::black_box(vec![1; 32 << 20])
        }
    }
}
