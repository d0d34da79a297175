//! The rules for the source tree: which files may name which others, and that every file describes itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the names and texts of all Rust sources of the project.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["host/src", "host/crates", "host/benches", "rules", "tests"].map(|folder| root.join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.strip_prefix(&root).unwrap().display().to_string();
            if entry.is_dir() && !name.ends_with("target") {
                folders.push(entry);
            } else if name.ends_with(".rs") {
                found.push((name, fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    assert!(found.len() > 30, "the sources were not found");
    found
}

/// Returns the lines of code, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "these files don't begin with `//!`: {silent:?}");
}

/// A crate can name only the dependencies of its manifest, so the compiler enforces these limits if the manifests keep them.
#[test]
fn heavy_dependencies_stand_in_one_manifest_each() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = fs::read_dir(root.join("host/crates")).unwrap().map(|entry| entry.unwrap().path());
    let manifests: Vec<(String, String)> = crates
        .chain([root.join("host")])
        .map(|folder| {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let dependencies = manifest.split("[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap().to_owned();
            (folder.file_name().unwrap().display().to_string(), dependencies)
        })
        .collect();
    for (dependency, room) in [("rdkafka", "kafka"), ("wasmtime", "wasm"), ("axum", "admin"), ("ureq", "host")] {
        let is_named = |line: &str| line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ']));
        let having = manifests.iter().filter(|(_, lines)| lines.lines().any(is_named)).map(|(name, _)| name.as_str());
        assert_eq!(having.collect::<Vec<_>>(), [room], "{dependency}");
    }
}

/// The image builds dependencies from the manifests alone, so it must know all of them.
#[test]
fn the_image_knows_every_manifest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let image = fs::read_to_string(root.join("Dockerfile")).unwrap();
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let crates = fs::read_dir(root.join("host/crates")).unwrap().map(|entry| entry.unwrap().file_name().display().to_string());
    let members = workspace.lines().find(|line| line.starts_with("members = ")).unwrap().split('"').skip(1).step_by(2);
    let members = members.filter(|member| !member.contains('*')).map(str::to_owned);
    for member in crates.map(|name| format!("host/crates/{name}")).chain(members) {
        let copied = format!("COPY {member}/Cargo.toml {member}/\n");
        assert!(image.contains(&copied), "the Dockerfile lacks: {copied}");
    }
}

/// The text of reasons and details comes from rules, so no decision may depend on it. A `Cause` says what has happened.
#[test]
fn no_fault_is_told_by_its_text() {
    // The files that name the reasons of rejections and count them.
    let named =
        ["core/src/reserved.rs", "core/src/pipeline/names.rs", "engine/src/snapshot.rs", "engine/src/process_snapshot.rs"]
            .map(|file| format!("host/crates/{file}"));
    let is_ours =
        |name: &str| name.starts_with("host/") && !name.starts_with("host/benches") && !named.iter().any(|named| named == name);
    for (name, text) in sources().iter().filter(|(name, _)| is_ours(name)) {
        let work = text.split("#[cfg(test)]").next().unwrap_or_default();
        let offence = code(work).find(|line| line.contains("RULE_FAULT") || line.contains("\"rule_fault"));
        assert_eq!(offence, None, "{name} tells a fault by its reason; ask its `Cause`");
        let rooms = ["/pipeline/", "/engine/", "/control/", "/kafka/src/writer.rs", "/kafka/src/sink.rs", "/apply.rs"];
        let decides = rooms.iter().any(|room| name.contains(room));
        let compares = |line: &&str| ["==", "!=", "starts_with", "contains("].iter().any(|compare| line.contains(compare));
        let text = |line: &&str| [".reason", "detail"].iter().any(|text| line.contains(text));
        let offence = code(work).filter(|_| decides).filter(text).find(compares);
        assert_eq!(offence, None, "{name} compares what a rule may have written; ask its `Cause`");
    }
}

/// `make mutants` applies the patches. This test checks that they stay valid: the code that they replace exists exactly once, and
/// their tests exist.
#[test]
fn every_mutant_applies_and_names_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let patches = fs::read_dir(root.join("tests/faults/mutants")).unwrap().map(|entry| entry.unwrap().path());
    let patches: Vec<PathBuf> = patches.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    assert!(patches.len() >= 3, "the mutants were not found");
    for patch in patches {
        let (name, text) = (patch.display(), fs::read_to_string(&patch).unwrap());
        let (head, diff) = text.split_once("\n--- a/").unwrap();
        for file in diff.split("\n--- a/") {
            let (path, hunks) = file.split_once('\n').unwrap();
            let source = fs::read_to_string(root.join(path)).unwrap();
            for hunk in hunks.split("\n@@ ").skip(1) {
                let lines = hunk.lines().skip(1).filter(|line| !line.starts_with('+'));
                let old: String = lines.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect();
                assert_eq!(source.matches(&old).count(), 1, "{name} does not apply to {path} any more: it expects\n{old}");
            }
        }
        let mut tests = head.lines().filter_map(|line| line.strip_prefix("caught-by: ")).peekable();
        assert!(tests.peek().is_some(), "{name} names no test that catches it");
        for (module, test) in tests.map(|test| test.split_once("::").unwrap()) {
            let tests = fs::read_to_string(root.join(format!("tests/faults/{module}.rs"))).unwrap();
            assert!(tests.contains(&format!("\nfn {test}")), "{name}: there is no test {module}::{test}…");
        }
    }
}

#[test]
fn no_test_is_switched_off() {
    let ignore = concat!("#[", "ignore");
    let off: Vec<String> = sources().into_iter().filter(|(_, text)| text.contains(ignore)).map(|(name, _)| name).collect();
    assert!(off.is_empty(), "these files switch tests off: {off:?}");
}

/// Files that need each other are in fact one file. A folder and its files may need each other, because the folder is the facade
/// of its files.
#[test]
fn no_files_need_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = fs::read_dir(root.join("host/crates")).unwrap().map(|entry| entry.unwrap().path());
    for folder in crates.chain([root.join("host")]) {
        let needs = needs(&folder.join("src"));
        assert!(needs.len() > 5, "the files of {} were not found", folder.display());
        for start in needs.keys() {
            // All modules that are needed, directly or not, each with a module that needs it.
            let (mut reached, mut open) = (BTreeMap::<&str, &str>::new(), vec![start.as_str()]);
            while let Some(module) = open.pop() {
                for next in &needs[module] {
                    if !reached.contains_key(next.as_str()) {
                        reached.insert(next, module);
                        open.push(next);
                    }
                }
            }
            let mut way = Vec::from_iter(reached.get(start.as_str()).copied());
            while way.last().is_some_and(|last| last != start) {
                way.push(reached[way[way.len() - 1]]);
            }
            let back = (!way.is_empty()).then(|| format!("{start} <- {}", way.join(" <- ")));
            assert_eq!(back, None, "{} has files that need each other", folder.display());
        }
    }
}

/// Returns for each module the modules of the same crate that it names, except its parents and children. Tests are left out.
fn needs(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let (mut texts, mut folders) = (BTreeMap::new(), vec![source.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.strip_prefix(source).unwrap().with_extension("").display().to_string().replace('/', "::");
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|end| end == "rs")
                && !["main", "tests", "faults"].contains(&entry.file_stem().unwrap().to_str().unwrap())
            {
                let text = fs::read_to_string(&entry).unwrap();
                let work = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let module = if name == "lib" { "" } else { name.strip_suffix("::mod").unwrap_or(&name) };
                texts.insert(module.to_owned(), code(work).collect::<Vec<_>>().join("\n"));
            }
        }
    }
    let modules: BTreeSet<&str> = texts.keys().map(String::as_str).collect();
    let facades: BTreeMap<(&str, String), String> = texts
        .iter()
        .flat_map(|(module, text)| uses(text, "pub use ").into_iter().map(move |path| (module.as_str(), path)))
        .filter_map(|(module, path)| {
            let (target, _) = resolve(&modules, module, &path)?;
            Some(((module, path.rsplit("::").next()?.to_owned()), target))
        })
        .collect();
    let is_related = |a: &str, b: &str| a == b || b.is_empty() || a.starts_with(&format!("{b}::"));
    let named = |module: &str, text: &str| {
        let paths = uses(text, "use ").into_iter().chain(inline_paths(text));
        let targets = paths.filter_map(|path| {
            let (target, rest) = resolve(&modules, module, &path)?;
            Some(facades.get(&(target.as_str(), rest)).cloned().unwrap_or(target))
        });
        targets.filter(|target| !is_related(module, target) && !is_related(target, module)).collect()
    };
    texts.iter().map(|(module, text)| (module.clone(), named(module, text))).collect()
}

/// Returns the paths of all declarations that begin with `keyword`, with their groups expanded.
fn uses(text: &str, keyword: &str) -> Vec<String> {
    let declarations = text.split(keyword).skip(1).filter_map(|rest| rest.split(';').next());
    declarations.flat_map(|tree| written_out("", &tree.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

/// Expands `a::{b, c::{d, e}}` to `a::b`, `a::c::d` and `a::c::e`.
fn written_out(prefix: &str, tree: &str) -> Vec<String> {
    let Some((head, group)) = tree.split_once('{') else {
        return vec![format!("{prefix}{}", tree.split(" as ").next().unwrap().trim())];
    };
    let (prefix, group) = (format!("{prefix}{}", head.trim()), group.rsplit_once('}').map_or(group, |(group, _)| group));
    let (mut depth, mut begin, mut paths) = (0, 0, Vec::new());
    for (at, next) in group.char_indices().chain([(group.len(), ',')]) {
        match next {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = group[begin..at].trim();
                paths.extend(if part.is_empty() { Vec::new() } else { written_out(&prefix, part) });
                begin = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// Returns the paths in the code that begin with `crate::`, `super::` or `self::`.
fn inline_paths(text: &str) -> Vec<String> {
    let is_path = |next: char| next.is_alphanumeric() || next == '_' || next == ':';
    let words = text.split(|next: char| !is_path(next));
    let is_own = |word: &&str| ["crate::", "super::", "self::"].iter().any(|start| word.starts_with(start));
    words.filter(is_own).map(|word| word.trim_end_matches(':').to_owned()).collect()
}

/// Returns the module that `path` names in `module`, and the next name in the path.
fn resolve(modules: &BTreeSet<&str>, module: &str, path: &str) -> Option<(String, String)> {
    let mut segments: VecDeque<&str> = path.split("::").map(str::trim).collect();
    let mut base: Vec<&str> = module.split("::").filter(|segment| !segment.is_empty()).collect();
    match *segments.front()? {
        "crate" => base.clear(),
        "super" => drop(base.pop()),
        "self" => {}
        // A child module that is named without `self::`.
        first if modules.contains(base.iter().copied().chain([first]).collect::<Vec<_>>().join("::").as_str()) => {
            segments.push_front("self");
        }
        _ => return None,
    }
    segments.pop_front();
    while segments.front() == Some(&"super") {
        base.pop();
        segments.pop_front();
    }
    while let Some(next) = segments.front() {
        let longer = base.iter().chain([next]).copied().collect::<Vec<_>>().join("::");
        if !modules.contains(longer.as_str()) {
            break;
        }
        base.extend(segments.pop_front());
    }
    Some((base.join("::"), segments.front().copied().unwrap_or_default().to_owned()))
}

/// A small crate whose dependencies are known.
#[test]
fn files_that_need_each_other_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    write("lib.rs", "mod a;\nmod b;\nmod inner;\npub use b::{Deep as D, other::{X, Y}};\nuse a::A;\n");
    write("a.rs", "use crate::Deep; // use crate::inner::No;\n");
    write("b.rs", "fn f() { super::a::g() }\n#[cfg(test)]\nmod tests {\n    use crate::inner;\n}\n");
    write("inner/mod.rs", "mod leaf;\nuse leaf::Leaf;\nuse crate::a::{self, A};\n");
    write("inner/leaf.rs", "use super::Above;\nuse super::super::b::B;\n");
    let needs = needs(folder.path());
    let of = |module: &str| needs[module].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!((of(""), of("b"), of("inner"), of("inner::leaf")), (vec![], vec!["a"], vec!["a"], vec!["b"]));
    assert_eq!(of("a"), ["b"], "by way of a facade");
}
