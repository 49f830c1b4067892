//! From addresses to the names of functions.
//!
//! The symbol table names every function that was compiled (of a stripped library, those that it offers to others); the line tables of our own code name, beyond that, those
//! that the compiler has merged into their callers, and where the source stands.

use std::borrow::Cow;
use std::collections::HashMap;

use addr2line::gimli::{Dwarf, EndianSlice, NativeEndian, SectionId};
use object::{Object, ObjectSection};

use super::CUT;
use super::images::{Image, Pieces};

/// A function at an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Function {
    pub(super) name: String,
    /// Its source; empty where it is not known.
    pub(super) file: String,
    /// The line of the call; 0 where it is not known.
    pub(super) line: u32,
}

impl Function {
    fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            file: String::new(),
            line: 0,
        }
    }
}

/// The functions at each of `addresses`, innermost first: more than one where some were merged into another.
pub(super) fn names(
    images: &[Image],
    addresses: impl IntoIterator<Item = u64>,
) -> HashMap<u64, Vec<Function>> {
    let mut by_image: HashMap<Option<usize>, Vec<u64>> = HashMap::new();
    for address in addresses {
        let image = images
            .iter()
            .position(|image| image.range.contains(&address));
        by_image.entry(image).or_default().push(address);
    }
    let mut names = HashMap::new();
    for (image, addresses) in by_image {
        let image = image.map(|index| &images[index]);
        if let Some(image) = image
            && resolve(image, &addresses, &mut names).is_some()
        {
            continue;
        }
        let place = image.map_or("[nowhere]", |image| image.path.as_str());
        for address in addresses {
            names
                .entry(address)
                .or_insert_with(|| vec![unknown(address, place)]);
        }
    }
    names
}

fn unknown(address: u64, place: &str) -> Function {
    if address == CUT {
        return Function::named("[the rest of the stack is not known]");
    }
    let file = place.rsplit('/').next().unwrap_or(place);
    Function::named(format!("[{}]", file.trim_matches(['[', ']'])))
}

type Bytes<'a> = EndianSlice<'a, NativeEndian>;

/// Names the addresses of one image. `None` if its file cannot be read.
fn resolve(
    image: &Image,
    addresses: &[u64],
    names: &mut HashMap<u64, Vec<Function>>,
) -> Option<()> {
    let pieces = image.open().ok()?;
    let file = object::File::parse(&pieces).ok()?;
    let symbols = file.symbol_map();
    let lines = lines(&file);
    for address in addresses {
        let stated = address.wrapping_sub(image.bias);
        let symbol = symbols.containing(stated).map(|symbol| symbol.name());
        let mut functions = lines
            .as_ref()
            .and_then(|lines| inlined(lines, stated))
            .unwrap_or_default();
        match (functions.last_mut(), symbol) {
            // The function that the others were merged into: the line tables know only the last part of its name.
            (Some(outermost), Some(symbol)) => outermost.name = readable(symbol),
            (None, Some(symbol)) => functions.push(Function::named(readable(symbol))),
            (Some(_), None) => {}
            (None, None) => functions.push(unknown(*address, &image.path)),
        }
        names.insert(*address, functions);
    }
    Some(())
}

fn lines<'a>(file: &object::File<'a, &'a Pieces>) -> Option<addr2line::Context<Bytes<'a>>> {
    let section = |id: SectionId| -> Result<Bytes<'a>, addr2line::gimli::Error> {
        let bytes = file
            .section_by_name(id.name())
            .and_then(|section| section.data().ok())
            .unwrap_or_default();
        Ok(EndianSlice::new(bytes, NativeEndian))
    };
    addr2line::Context::from_dwarf(Dwarf::load(section).ok()?).ok()
}

fn inlined(lines: &addr2line::Context<Bytes<'_>>, address: u64) -> Option<Vec<Function>> {
    let mut frames = lines.find_frames(address).skip_all_loads().ok()?;
    let mut functions = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref();
        let name = name.and_then(|function| function.raw_name().ok());
        let location = frame.location.as_ref();
        functions.push(Function {
            name: readable(&name.unwrap_or(Cow::Borrowed("[unnamed]"))),
            file: location
                .and_then(|location| location.file)
                .unwrap_or_default()
                .to_owned(),
            line: location.and_then(|location| location.line).unwrap_or(0),
        });
    }
    Some(functions)
}

/// A name without its mangling and without the hash at its end.
fn readable(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}
