//! From addresses to the names of functions.
//!
//! The symbol table names every function that was compiled (of a stripped library, those that it offers to others); the
//! line tables of our own code name, beyond that, those that the compiler has merged into their callers, and where the
//! source stands.

use std::borrow::Cow;
use std::collections::HashMap;

use addr2line::gimli::{Dwarf, EndianSlice, NativeEndian, SectionId};
use object::{Object, ObjectSection};

use super::CUT;
use super::images::Image;

/// A function at an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Function {
    pub(super) name: String,
    /// The name as the linker knows it. A reader that finds it equal to `name` takes `<` and what follows for noise.
    pub(super) symbol: String,
    /// Its source; empty where it is not known.
    pub(super) file: String,
    /// The line of the call; 0 where it is not known.
    pub(super) line: u32,
}

impl Function {
    fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            symbol: String::new(),
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
    let file = image.contents().ok()?;
    let file = object::File::parse(&*file).ok()?;
    let symbols = file.symbol_map();
    let lines = lines(&file);
    for address in addresses {
        let stated = address.wrapping_sub(image.bias);
        let symbol = symbols.containing(stated).map(object::SymbolMapName::name);
        let mut functions = lines
            .as_ref()
            .and_then(|lines| inlined(lines, stated))
            .unwrap_or_default();
        match (functions.last_mut(), symbol) {
            // The function that the others were merged into, and the only one that has a symbol.
            (Some(outermost), Some(symbol)) => {
                outermost.name = readable(symbol);
                symbol.clone_into(&mut outermost.symbol);
            }
            (None, Some(symbol)) => functions.push(Function {
                symbol: symbol.to_owned(),
                ..Function::named(readable(symbol))
            }),
            (Some(_), None) => {}
            (None, None) => functions.push(unknown(*address, &image.path)),
        }
        names.insert(*address, functions);
    }
    Some(())
}

fn lines<'a>(file: &object::File<'a>) -> Option<addr2line::Context<Bytes<'a>>> {
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
        let file = location
            .and_then(|location| location.file)
            .unwrap_or_default();
        functions.push(Function {
            file: file.to_owned(),
            line: location.and_then(|location| location.line).unwrap_or(0),
            ..Function::named(qualified(&name.unwrap_or(Cow::Borrowed("[unnamed]")), file))
        });
    }
    Some(functions)
}

/// A name without its mangling and without the hash at its end.
fn readable(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// Line tables know only the last part of a name, with the types it was compiled for: `poll<..>`. The file that it
/// stands in tells the rest, near enough.
fn qualified(name: &str, file: &str) -> String {
    let name = readable(name);
    let last = name.split('<').next().unwrap_or_default();
    if last.is_empty() || last.contains("::") {
        return name;
    }
    let Some((folder, module)) = file.rsplit_once("/src/") else {
        return last.to_owned();
    };
    let folder = if folder == env!("CARGO_MANIFEST_DIR") {
        env!("CARGO_PKG_NAME")
    } else {
        folder.rsplit('/').next().unwrap_or(folder)
    };
    let version = folder
        .rmatch_indices('-')
        .map(|(dash, _)| dash)
        .find(|dash| folder[dash + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let package = folder[..version.unwrap_or(folder.len())].replace('-', "_");
    let module = module.trim_end_matches(".rs");
    let parts = module
        .split('/')
        .filter(|part| !["lib", "main", "mod"].contains(part));
    let mut path: Vec<&str> = std::iter::once(package.as_str()).chain(parts).collect();
    path.push(last);
    path.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_merged_is_named_by_the_file_it_stands_in() {
        let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/src/shop/mod.rs");
        for (name, file, expected) in [
            ("poll", ours, "firedrill::shop::poll"),
            (
                "compress",
                "/r/argon2-0.6.1/src/block.rs",
                "argon2::block::compress",
            ),
            (
                "next",
                "/r/futures-util-0.3.0-rc.1/src/lib.rs",
                "futures_util::next",
            ),
            (
                "drop",
                "/rustc/59807/library/core/src/ptr/mod.rs",
                "core::ptr::drop",
            ),
            ("a::b", "/r/argon2-0.6.1/src/block.rs", "a::b"),
            ("memcpy", "", "memcpy"),
            ("poll<a::F, u8>", "/r/b-1.0.0/src/c.rs", "b::c::poll"),
            ("<a::F>::poll", "/r/b-1.0.0/src/c.rs", "<a::F>::poll"),
        ] {
            assert_eq!(qualified(name, file), expected);
        }
    }

    #[test]
    fn an_address_without_an_image_is_named_all_the_same() {
        let names = names(&[], [CUT, 7]);
        assert_eq!(names[&CUT][0].name, "[the rest of the stack is not known]");
        assert_eq!(names[&7][0].name, "[nowhere]");
    }
}
