//! A configuration is accepted, or refused with one line that gives the reason. Nothing else happens.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use weir::config::Config;

fuzz_target!(|written: (&str, Vec<(&str, &str)>)| {
    let (text, variables) = written;
    let variables = variables.into_iter().map(|(name, value)| (format!("WEIR_{name}"), value.to_owned()));
    if let Err(invalid) = Config::parse(text, Path::new("weir.toml"), variables) {
        let said = invalid.to_string();
        assert!(!said.is_empty() && !said.contains('\n'), "{said:?}");
    }
});
