//! From a copied stack to the addresses of its functions.
//!
//! Optimised code keeps no frame pointer. What the compiler writes down for panics, for every instruction how to
//! find the caller, serves here too; it is there in every build and in the system's libraries.

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, Module, UnwindRegsNative, Unwinder as _, UnwinderNative,
};

use super::CUT;
use super::images::{self, Image};
use super::ticks::{Registers, Sample};

/// The deepest stack that is told; what lies further out is cut off.
const FRAMES_MAX: usize = 256;

/// Takes stacks apart.
pub(super) struct Unwinder {
    rules: UnwinderNative<Vec<u8>, framehop::MayAllocateDuringUnwind>,
    known: CacheNative<framehop::MayAllocateDuringUnwind>,
}

impl Unwinder {
    /// Reads the rules of `images`. What has none is unwound by frame pointers.
    pub(super) fn new(images: &[Image]) -> Self {
        let mut rules = UnwinderNative::new();
        for module in images.iter().filter_map(module) {
            rules.add_module(module);
        }
        Self {
            rules,
            known: CacheNative::new(),
        }
    }

    /// The addresses of the calls on the stack, innermost first; [`CUT`] is the last if not all of it is known.
    pub(super) fn addresses(&mut self, sample: &Sample) -> Vec<u64> {
        let mut addresses = Vec::new();
        let mut read = |address| sample.read(address);
        let (from, registers) = (sample.registers.instruction, native(&sample.registers));
        let mut frames = self
            .rules
            .iter_frames(from, registers, &mut self.known, &mut read);
        while addresses.len() < FRAMES_MAX {
            match frames.next() {
                // Where a function returns to may be the next function's first instruction already.
                Ok(Some(frame)) => addresses.push(frame.address_for_lookup()),
                Ok(None) => return addresses,
                Err(_) => break,
            }
        }
        addresses.push(CUT);
        addresses
    }
}

#[cfg(target_arch = "x86_64")]
fn native(registers: &Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.instruction, registers.stack, registers.frame)
}

#[cfg(target_arch = "aarch64")]
fn native(registers: &Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.link, registers.stack, registers.frame)
}

fn module(image: &Image) -> Option<Module<Vec<u8>>> {
    let file = image.contents().ok()?;
    let file = object::File::parse(&*file).ok()?;
    let (eh_frame, eh_frame_svma) = images::section(&file, ".eh_frame").unzip();
    let (eh_frame_hdr, eh_frame_hdr_svma) = images::section(&file, ".eh_frame_hdr").unzip();
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame,
        eh_frame_svma,
        eh_frame_hdr,
        eh_frame_hdr_svma,
        ..ExplicitModuleSectionInfo::default()
    };
    Some(Module::new(
        image.path.clone(),
        image.range.clone(),
        image.bias,
        sections,
    ))
}
