//! The binary and its libraries, as they lie in this process's memory.
//!
//! An address means nothing without the file that was mapped there: the same function lies elsewhere at each start.

#![expect(
    unsafe_code,
    reason = "a binary with its debug information is too large to be copied; mapping it cannot be written without"
)]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;
use object::{Object, ObjectSection, ObjectSegment};

/// A file of which code is mapped.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// Its path, or `[vdso]`.
    pub(super) path: String,
    /// Where it lies.
    pub(super) range: Range<u64>,
    /// What is added to an address in the file to get the one in memory.
    pub(super) bias: u64,
}

/// The bytes of an image's file.
pub(super) enum Contents {
    Mapped(Mmap),
    Copied(Vec<u8>),
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl Image {
    /// The bytes of its file.
    pub(super) fn contents(&self) -> std::io::Result<Contents> {
        if self.path == VDSO {
            // The kernel's own code has no file; all of it lies in memory.
            let length = usize::try_from(self.range.end - self.range.start).unwrap_or(0);
            let mut bytes = vec![0; length];
            let mut memory = File::open("/proc/self/mem")?;
            memory.seek(SeekFrom::Start(self.range.start))?;
            memory.read_exact(&mut bytes)?;
            return Ok(Contents::Copied(bytes));
        }
        // By this name the binary can be opened also when a new build has taken its place.
        let running = Path::new("/proc/self/exe");
        let is_running = std::fs::read_link(running)? == Path::new(&self.path);
        let file = File::open(if is_running {
            running
        } else {
            Path::new(&self.path)
        })?;
        // SAFETY: the bytes must not change meanwhile. This process runs from that very file, which the kernel maps
        // in the same way: whoever rewrote it in place would break more than a profile.
        Ok(Contents::Mapped(unsafe { Mmap::map(&file)? }))
    }
}

const VDSO: &str = "[vdso]";

/// Every image of this process, in the order of their addresses.
pub(super) fn of_this_process() -> std::io::Result<Vec<Image>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut images = parse(&maps);
    images.retain_mut(|image| image.contents().is_ok_and(|file| place(image, &file)));
    Ok(images)
}

/// The files of `/proc/self/maps` of which a part is code, with the span of their addresses.
fn parse(maps: &str) -> Vec<Image> {
    let mut images: Vec<(Image, bool)> = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(rights), Some(path)) = (words.next(), words.next(), words.nth(3))
        else {
            continue;
        };
        let Some(range) = range.split_once('-').and_then(|(start, end)| {
            Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
        }) else {
            continue;
        };
        // A path may hold spaces, and says so where its file is gone; the words before it do not hold it.
        let path = line[line.find(path).unwrap_or_default()..].to_owned();
        let is_code = rights.contains('x');
        match images.last_mut() {
            Some((image, code)) if image.path == path => {
                image.range.end = range.end;
                *code |= is_code;
            }
            _ if path.starts_with('/') || path == VDSO => {
                let bias = range.start;
                images.push((Image { path, range, bias }, is_code));
            }
            _ => {}
        }
    }
    let code = images.into_iter().filter(|(_, is_code)| *is_code);
    code.map(|(image, _)| image).collect()
}

/// Corrects the bias of an image whose file does not begin at address zero; `false` if it cannot be read.
fn place(image: &mut Image, file: &[u8]) -> bool {
    let Ok(object) = object::File::parse(file) else {
        return false;
    };
    let first = object.segments().map(|segment| segment.address()).min();
    // Segments begin where a page does.
    let first = first.unwrap_or(0) & !0xfff;
    image.bias = image.range.start.wrapping_sub(first);
    true
}

/// The bytes and the addresses of a section, as the file states them.
pub(super) fn section(file: &object::File<'_>, name: &str) -> Option<(Vec<u8>, Range<u64>)> {
    let section = file.section_by_name(name)?;
    let start = section.address();
    let range = start..start.checked_add(section.size())?;
    Some((section.data().ok()?.to_vec(), range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_code_are_found_with_the_span_of_their_mappings() {
        let maps = "\
5000-6000 r--p 00000000 fe:00 1   /opt/a b/firedrill
6000-9000 r-xp 00001000 fe:00 1   /opt/a b/firedrill
9000-a000 rw-p 00004000 fe:00 1   /opt/a b/firedrill
a000-b000 rw-p 00000000 00:00 0
c000-d000 r--p 00000000 fe:00 2   /usr/share/data
e000-f000 rw-p 00000000 00:00 0   [heap]
10000-11000 r-xp 00000000 00:00 0 [vdso]
";
        let found: Vec<_> = parse(maps)
            .into_iter()
            .map(|image| (image.path, image.range))
            .collect();
        assert_eq!(
            found,
            [
                ("/opt/a b/firedrill".to_owned(), 0x5000..0xa000),
                ("[vdso]".to_owned(), 0x10000..0x11000)
            ]
        );
    }

    #[test]
    fn the_running_binary_is_among_them_where_its_functions_are() {
        let here = of_this_process as *const () as u64;
        let images = of_this_process().unwrap();
        let ours = images.iter().find(|image| image.range.contains(&here));
        let path = std::env::current_exe().unwrap();
        assert_eq!(ours.unwrap().path, path.to_str().unwrap());
    }
}
