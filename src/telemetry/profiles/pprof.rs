//! The form that `go tool pprof`, Pyroscope and Grafana Alloy read: Google's `profile.proto`, compressed.
//!
//! Every name is in it. A reader that had to ask for them would need this very binary beside it.

use std::collections::HashMap;
use std::io::Write;
use std::time::UNIX_EPOCH;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::symbols::Function;
use super::{Profile, Stack};

impl Profile {
    /// The profile as a compressed `profile.proto`.
    #[must_use]
    pub fn pprof(&self) -> Vec<u8> {
        let bytes = self.message().encode_to_vec();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder
            .write_all(&bytes)
            .expect("writing to memory cannot fail");
        encoder.finish().expect("writing to memory cannot fail")
    }

    fn message(&self) -> proto::Profile {
        let names = self.names();
        let mut tables = Tables::default();
        tables.text("");
        let sample_type: Vec<_> = self
            .measures
            .iter()
            .map(|(kind, unit)| tables.measure(kind, unit))
            .collect();
        let mapping = self.mappings(&mut tables);
        let samples = self.stacks.iter();
        let sample = samples
            .map(|(stack, values)| proto::Sample {
                location_id: self.locations(stack, &names, &mut tables),
                value: values.clone(),
                label: tables.thread(&stack.thread),
            })
            .collect();
        let comment = self.remarks.iter().map(|text| tables.text(text)).collect();
        proto::Profile {
            period_type: sample_type.last().copied(),
            sample_type,
            sample,
            mapping,
            comment,
            time_nanos: nanoseconds(self.began.duration_since(UNIX_EPOCH).unwrap_or_default()),
            duration_nanos: nanoseconds(self.lasted),
            period: self.period,
            location: tables.locations,
            function: tables.functions,
            string_table: tables.texts,
        }
    }

    fn mappings(&self, tables: &mut Tables) -> Vec<proto::Mapping> {
        let images = self.images.iter().zip(1..);
        images
            .map(|(image, id)| proto::Mapping {
                id,
                memory_start: image.range.start,
                memory_limit: image.range.end,
                filename: tables.text(&image.path),
                // Or a reader would go and look for them.
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
            })
            .collect()
    }

    fn locations(
        &self,
        stack: &Stack,
        names: &HashMap<u64, Vec<Function>>,
        tables: &mut Tables,
    ) -> Vec<u64> {
        let addresses = stack.addresses.iter();
        addresses
            .map(|address| {
                if let Some(id) = tables.location_ids.get(address) {
                    return *id;
                }
                let image = self
                    .images
                    .iter()
                    .position(|image| image.range.contains(address));
                let functions = names.get(address).map(Vec::as_slice).unwrap_or_default();
                tables.location(
                    *address,
                    image.map_or(0, |index| index as u64 + 1),
                    functions,
                )
            })
            .collect()
    }
}

fn nanoseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// What a profile says once and refers to afterwards.
#[derive(Default)]
struct Tables {
    texts: Vec<String>,
    text_ids: HashMap<String, i64>,
    functions: Vec<proto::Function>,
    function_ids: HashMap<(String, String), u64>, // by name and file
    locations: Vec<proto::Location>,
    location_ids: HashMap<u64, u64>,
}

impl Tables {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(id) = self.text_ids.get(text) {
            return *id;
        }
        let id = i64::try_from(self.texts.len()).unwrap_or(i64::MAX);
        self.texts.push(text.to_owned());
        self.text_ids.insert(text.to_owned(), id);
        id
    }

    fn measure(&mut self, kind: &str, unit: &str) -> proto::ValueType {
        proto::ValueType {
            kind: self.text(kind),
            unit: self.text(unit),
        }
    }

    fn thread(&mut self, name: &str) -> Vec<proto::Label> {
        if name.is_empty() {
            return Vec::new();
        }
        vec![proto::Label {
            key: self.text("thread"),
            text: self.text(name),
        }]
    }

    fn location(&mut self, address: u64, mapping_id: u64, functions: &[Function]) -> u64 {
        let line = functions
            .iter()
            .map(|function| proto::Line {
                function_id: self.function(function),
                line: function.line.into(),
            })
            .collect();
        let id = self.locations.len() as u64 + 1;
        self.locations.push(proto::Location {
            id,
            mapping_id,
            address,
            line,
        });
        self.location_ids.insert(address, id);
        id
    }

    fn function(&mut self, function: &Function) -> u64 {
        let key = (function.name.clone(), function.file.clone());
        if let Some(id) = self.function_ids.get(&key) {
            return *id;
        }
        let id = self.functions.len() as u64 + 1;
        let function = proto::Function {
            id,
            name: self.text(&function.name),
            system_name: self.text(&function.symbol),
            filename: self.text(&function.file),
        };
        self.functions.push(function);
        self.function_ids.insert(key, id);
        id
    }
}

/// The messages of `profile.proto`, with the fields that are used here.
mod proto {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) mapping: Vec<Mapping>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) string_table: Vec<String>,
        #[prost(int64, tag = "9")]
        pub(super) time_nanos: i64,
        #[prost(int64, tag = "10")]
        pub(super) duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub(super) period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub(super) period: i64,
        #[prost(int64, repeated, tag = "13")]
        pub(super) comment: Vec<i64>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) kind: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) label: Vec<Label>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Label {
        #[prost(int64, tag = "1")]
        pub(super) key: i64,
        #[prost(int64, tag = "2")]
        pub(super) text: i64,
    }

    #[expect(clippy::struct_excessive_bools, reason = "the format has them")]
    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Mapping {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) memory_start: u64,
        #[prost(uint64, tag = "3")]
        pub(super) memory_limit: u64,
        #[prost(int64, tag = "5")]
        pub(super) filename: i64,
        #[prost(bool, tag = "7")]
        pub(super) has_functions: bool,
        #[prost(bool, tag = "8")]
        pub(super) has_filenames: bool,
        #[prost(bool, tag = "9")]
        pub(super) has_line_numbers: bool,
        #[prost(bool, tag = "10")]
        pub(super) has_inline_frames: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) mapping_id: u64,
        #[prost(uint64, tag = "3")]
        pub(super) address: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
        #[prost(int64, tag = "2")]
        pub(super) line: i64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "3")]
        pub(super) system_name: i64,
        #[prost(int64, tag = "4")]
        pub(super) filename: i64,
    }
}
