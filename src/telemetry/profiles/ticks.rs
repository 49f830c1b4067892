//! The timer that ticks with the process's CPU time, and the signal handler that copies a stack at each tick.
//!
//! A handler may interrupt anything: the allocator, a lock's owner, the unwinder of a panic. It therefore asks the kernel
//! directly, by `syscall`, which keeps nothing but `errno`; it takes no lock and allocates nothing: the places that
//! it writes to lie ready in the process's image. Stacks are read through `/proc/self/mem`, where a wrong address is an
//! error and not a crash. The handler runs on the stack that it interrupts and needs some hundred bytes of it: it moves
//! one pointer at a time, and the kernel does the copying.

#![expect(
    unsafe_code,
    reason = "the standard library has neither signal handlers nor timers; each call stands alone and says why it is sound"
)]

use std::cell::UnsafeCell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use libc::{c_int, c_void};

/// How much of a stack is copied. What lies further out is not known.
const STACK_BYTES: usize = 128 * 1024;

/// Stacks that wait to be taken apart: those of a sixth of a second, with two cores at work and 100 samples a second.
const PLACES: usize = 32;

/// `ITIMER_PROF`: it ticks with the CPU time of all threads, and the thread that runs at the tick gets the signal.
const PROFILING_TIMER: c_int = 2;

/// The registers from which a stack is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registers {
    /// The instruction at which the thread was interrupted.
    pub(super) instruction: u64,
    /// Where its stack begins.
    pub(super) stack: u64,
    /// The frame pointer, or whatever the compiler keeps there.
    pub(super) frame: u64,
    /// Where the innermost function returns to, on machines that keep it in a register.
    #[cfg(target_arch = "aarch64")]
    pub(super) link: u64,
}

/// A thread at a tick.
pub(super) struct Sample {
    pub(super) registers: Registers,
    name: [u8; 16],
    copied: usize,
    stack: [u8; STACK_BYTES],
}

impl Sample {
    /// The thread's name.
    pub(super) fn thread(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&self.name[..end.unwrap_or(self.name.len())]).into_owned()
    }

    /// The eight bytes of the stack at `address`, if they were copied.
    pub(super) fn read(&self, address: u64) -> Result<u64, ()> {
        let offset = address.checked_sub(self.registers.stack).ok_or(())?;
        let offset = usize::try_from(offset).map_err(|_| ())?;
        let bytes = self.stack[..self.copied]
            .get(offset..offset.saturating_add(8))
            .ok_or(())?;
        Ok(u64::from_ne_bytes(bytes.try_into().map_err(|_| ())?))
    }
}

struct Place {
    state: AtomicU8,
    sample: UnsafeCell<Sample>,
}

const FREE: u8 = 0;
const BEING_WRITTEN: u8 = 1;
const FULL: u8 = 2;

// SAFETY: whoever touches `sample` owns the place: the handler from FREE to FULL, the one reader from FULL to FREE.
unsafe impl Sync for Place {}

static PLACES_OF_SAMPLES: [Place; PLACES] = [const {
    Place {
        state: AtomicU8::new(FREE),
        sample: UnsafeCell::new(Sample {
            registers: Registers {
                instruction: 0,
                stack: 0,
                frame: 0,
                #[cfg(target_arch = "aarch64")]
                link: 0,
            },
            name: [0; 16],
            copied: 0,
            stack: [0; STACK_BYTES],
        }),
    }
}; PLACES];

/// Whether the handler does anything.
static TAKING: AtomicBool = AtomicBool::new(false);
/// Where to look for a free place first.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Ticks that found no place.
static LOST: AtomicU64 = AtomicU64::new(0);
/// `/proc/self/mem`. It stays open: a handler may still run when a profile ends.
static MEMORY: OnceLock<File> = OnceLock::new();

/// Called at a tick, on the thread that was interrupted.
extern "C" fn on_tick(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    if !TAKING.load(Ordering::Acquire) || context.is_null() {
        return;
    }
    let Some(memory) = MEMORY.get() else { return };
    // SAFETY: the address is this thread's own; the interrupted code must find what it left there.
    let error = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel gives a handler with SA_SIGINFO a context of this type, valid until it returns.
    let registers = registers(unsafe { &*context.cast::<libc::ucontext_t>() });
    copy(memory.as_raw_fd(), registers);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = error };
}

fn copy(memory: c_int, registers: Registers) {
    let first = NEXT.fetch_add(1, Ordering::Relaxed);
    let free = (0..PLACES)
        .map(|offset| &PLACES_OF_SAMPLES[first.wrapping_add(offset) % PLACES])
        .find(|place| {
            let taken = place.state.compare_exchange(
                FREE,
                BEING_WRITTEN,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            taken.is_ok()
        });
    let Some(place) = free else {
        LOST.fetch_add(1, Ordering::Relaxed);
        return;
    };
    // SAFETY: the exchange above made this handler the place's only owner.
    let sample = unsafe { &mut *place.sample.get() };
    sample.registers = registers;
    // SAFETY: the kernel writes 16 bytes at most, which is what `name` holds.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_NAME, sample.name.as_mut_ptr()) };
    // An address beyond i64 is no stack's; nothing is copied then.
    let from = i64::try_from(registers.stack).unwrap_or(-1);
    // SAFETY: the kernel writes at most as many bytes as the buffer has, or says that it could not read.
    let copied = unsafe {
        libc::syscall(
            libc::SYS_pread64,
            memory,
            sample.stack.as_mut_ptr(),
            STACK_BYTES,
            from,
        )
    };
    sample.copied = usize::try_from(copied).unwrap_or(0);
    place.state.store(FULL, Ordering::Release);
}

#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> Registers {
    let register = |index: c_int| {
        let index = usize::try_from(index).unwrap_or_default();
        context.uc_mcontext.gregs[index].cast_unsigned()
    };
    Registers {
        instruction: register(libc::REG_RIP),
        stack: register(libc::REG_RSP),
        frame: register(libc::REG_RBP),
    }
}

#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> Registers {
    Registers {
        instruction: context.uc_mcontext.pc,
        stack: context.uc_mcontext.sp,
        frame: context.uc_mcontext.regs[29],
        link: context.uc_mcontext.regs[30],
    }
}

/// Ticks while it lives. There is one at most: see [`super::cpu`].
pub(super) struct Ticks(());

#[expect(
    clippy::unused_self,
    reason = "only whoever ticks may drain: what `self` stands for is static, because a handler may come late"
)]
impl Ticks {
    /// Begins to tick, `hz` times in each second of CPU time.
    pub(super) fn start(hz: u32) -> std::io::Result<Self> {
        if MEMORY.get().is_none() {
            let memory = File::open("/proc/self/mem")?;
            // Somebody else's is as good.
            drop(MEMORY.set(memory));
        }
        handle_ticks()?;
        for place in &PLACES_OF_SAMPLES {
            // From a tick that came when the last profile had ended.
            let _full =
                place
                    .state
                    .compare_exchange(FULL, FREE, Ordering::AcqRel, Ordering::Relaxed);
        }
        LOST.store(0, Ordering::Relaxed);
        TAKING.store(true, Ordering::Release);
        let ticking = Self(());
        set_timer(i64::from(1_000_000 / hz))?;
        Ok(ticking)
    }

    /// Hands out every sample that waits, and says how many there were.
    pub(super) fn drain(&self, mut each: impl FnMut(&Sample)) -> usize {
        let mut seen = 0;
        for place in &PLACES_OF_SAMPLES {
            if place.state.load(Ordering::Acquire) == FULL {
                // SAFETY: FULL makes the one reader the owner; the load above shows what the handler wrote.
                each(unsafe { &*place.sample.get() });
                place.state.store(FREE, Ordering::Release);
                seen += 1;
            }
        }
        seen
    }

    /// Ticks that found no place for their sample.
    pub(super) fn lost(&self) -> u64 {
        LOST.load(Ordering::Relaxed)
    }

    /// Stops the timer; what was copied can still be drained.
    pub(super) fn pause(&self) {
        // It was set before with the same call, so it can be cleared.
        drop(set_timer(0));
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.pause();
        TAKING.store(false, Ordering::Release);
    }
}

/// Installs the handler, for good: a tick that comes late would end a process that has none.
fn handle_ticks() -> std::io::Result<()> {
    // SAFETY: all zeros is a valid `sigaction`; what matters is set below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_tick as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler is a function for the life of the process and does only what is safe in one.
    checked(unsafe { libc::sigaction(libc::SIGPROF, &raw const action, ptr::null_mut()) }.into())
}

/// Sets the timer's interval in microseconds of CPU time; 0 stops it.
fn set_timer(interval_us: i64) -> std::io::Result<()> {
    let interval = libc::timeval {
        tv_sec: interval_us / 1_000_000,
        tv_usec: interval_us % 1_000_000,
    };
    // The interval and the time until the first tick: the kernel's `itimerval`.
    let both = [interval, interval];
    // SAFETY: the kernel reads two `timeval` from this address and writes nothing.
    checked(unsafe {
        libc::syscall(
            libc::SYS_setitimer,
            PROFILING_TIMER,
            both.as_ptr(),
            ptr::null_mut::<c_void>(),
        )
    })
}

fn checked(result: i64) -> std::io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error())
}
