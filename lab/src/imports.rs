//! `cargo lab imports`: no circle of imports between the files of a crate, and the size of each crate. Cargo refuses
//! circles between crates only.
//!
//! A file imports another when a `use` or a path in its code, tests left out, leads into that file's module. A module
//! and the files of its own folder count as one room: `fetch.rs` may use `fetch/plan.rs`, which may use it in turn.
//!
//! A code line has a token outside of tests and comments. `lab` and `xtask` have limits: what is added there has to make
//! something else smaller.

#![expect(clippy::print_stdout, reason = "the result is what the command is run for")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, ensure};
use proc_macro2::{Delimiter, LexError, TokenStream, TokenTree};
use syn::visit::Visit;
use xshell::{Shell, cmd};

use crate::project;

/// A module's path from the crate's root, which is empty.
type Module = Vec<String>;

/// The most code lines of the crates that no user's program contains.
const LIMITS: [(&str, usize); 3] = [("lab", 8_850), ("lab/fuzz", 500), ("xtask", 870)];

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    let listed =
        cmd!(sh, "git -c core.quotePath=false ls-files --cached --others --exclude-standard -- *.rs")
            .quiet()
            .read()?;
    let mut crates = BTreeMap::<&str, BTreeMap<Module, syn::File>>::new();
    let mut sizes = BTreeMap::<&str, BTreeMap<Module, FileSize>>::new();
    for path in listed.lines().filter(|path| sh.path_exists(path)) {
        if let Some((root, file)) = path.split_once("/src/").or_else(|| path.split_once("/fuzz_targets/")) {
            let tokens = tokens_of(&sh.read_file(path)?).with_context(|| path.to_owned())?;
            sizes.entry(root).or_default().insert(module_of(file), FileSize::of(tokens.clone()));
            let code = syn::parse2(tokens).with_context(|| path.to_owned())?;
            crates.entry(root).or_default().insert(module_of(file), code);
        }
    }
    let circle = |(root, modules): (&&str, _)| Some(format!("{root}: {}", circle_of(&imports_of(modules))?));
    let circles: Vec<_> = crates.iter().filter_map(circle).collect();
    println!("{} crates, {} with a circle", crates.len(), circles.len());
    ensure!(circles.is_empty(), "files import each other in a circle:\n  {}", circles.join("\n  "));
    let sizes: BTreeMap<&str, usize> =
        sizes.into_iter().map(|(root, files)| (root, code_lines(&files))).collect();
    for (root, lines) in &sizes {
        println!("{lines:>7} code lines  {root}");
    }
    for (root, limit) in LIMITS {
        let lines = *sizes.get(root).with_context(|| format!("no crate {root}"))?;
        ensure!(
            lines <= limit,
            "{root} has {lines} code lines, and its limit is {limit}: simplify what it has, or say in \
             docs/decisions.md, entry 69, why it needs more"
        );
    }
    Ok(())
}

fn tokens_of(text: &str) -> Result<TokenStream> {
    text.parse().map_err(|error: LexError| anyhow!("{error}"))
}

/// The lines of a file with code, and the modules that it declares for tests.
#[derive(Default)]
struct FileSize {
    lines: BTreeSet<usize>,
    tests: Vec<String>,
}

impl FileSize {
    fn of(tokens: TokenStream) -> Self {
        let mut size = Self::default();
        size.add(tokens);
        size
    }

    fn add(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            // Of an inner attribute, as `//!` is one.
            tokens.next_if(|next| token.to_string() == "#" && next.to_string() == "!");
            let attribute = match (&token, tokens.peek()) {
                (TokenTree::Punct(mark), Some(TokenTree::Group(group))) if mark.as_char() == '#' => {
                    group.stream().to_string().replace(' ', "")
                }
                _ => String::new(),
            };
            if attribute == "cfg(test)" {
                // The attribute ends with its item: at its braces or its semicolon.
                let is_end = |token: &TokenTree| match token {
                    TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                    TokenTree::Punct(mark) => mark.as_char() == ';',
                    _ => false,
                };
                let item: Vec<_> = tokens.by_ref().take_while(|token| !is_end(token)).collect();
                if let [.., TokenTree::Ident(word), TokenTree::Ident(name)] = &item[..]
                    && word == "mod"
                {
                    self.tests.push(name.to_string());
                }
            } else if attribute.starts_with("doc=") {
                tokens.next();
            } else if let TokenTree::Group(group) = token {
                self.lines.extend([group.span_open().start().line, group.span_close().end().line]);
                self.add(group.stream());
            } else {
                self.lines.extend(token.span().start().line..=token.span().end().line);
            }
        }
    }
}

/// The code lines of a crate without the modules that are for tests.
fn code_lines(files: &BTreeMap<Module, FileSize>) -> usize {
    let below = |(module, size): (&Module, &FileSize)| {
        size.tests.iter().map(|name| [&module[..], std::slice::from_ref(name)].concat()).collect::<Vec<_>>()
    };
    let tests: Vec<Module> = files.iter().flat_map(below).collect();
    let is_code = |module: &&Module| !tests.iter().any(|test| module.starts_with(test));
    files.keys().filter(is_code).map(|module| files[module].lines.len()).sum()
}

/// The module of a file below `src/`.
fn module_of(file: &str) -> Module {
    let names = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    names.filter(|name| !matches!(name.as_str(), "lib" | "mod")).collect()
}

/// For each module, the modules of the same crate that its code names.
fn imports_of(modules: &BTreeMap<Module, syn::File>) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut imports = BTreeMap::new();
    for (module, file) in modules {
        let mut paths = Paths { module, found: Vec::new() };
        paths.visit_file(file);
        let resolve = |path: Module| {
            (0..=path.len()).rev().map(|n| path[..n].to_vec()).find(|path| modules.contains_key(path))
        };
        let named = paths.found.into_iter().filter_map(resolve);
        let apart = |other: &Module| !other.starts_with(module) && !module.starts_with(other);
        imports.insert(module.clone(), named.filter(apart).collect());
    }
    imports
}

/// Collects the crate's own paths, from its root.
struct Paths<'m> {
    module: &'m Module,
    found: Vec<Module>,
}

impl Paths<'_> {
    fn add(&mut self, path: &[String]) {
        let above = path.iter().take_while(|name| *name == "super").count();
        let absolute = match path.first().map(String::as_str) {
            Some("crate") => path[1..].to_vec(),
            Some("self") => [self.module, &path[1..]].concat(),
            Some("super") if above <= self.module.len() => {
                [&self.module[..self.module.len() - above], &path[above..]].concat()
            }
            _ => return,
        };
        self.found.push(absolute);
    }

    fn add_tree(&mut self, mut path: Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(next) => {
                path.push(next.ident.to_string());
                self.add_tree(path, &next.tree);
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_tree(path.clone(), tree));
            }
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                path.push(ident.to_string());
                self.add(&path);
            }
            syn::UseTree::Glob(_) => self.add(&path),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        });
        if !is_test {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

/// The files that are left when those that import no other of them, or that no other of them imports, are removed: each
/// is in a circle, or between two.
fn circle_of(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Option<String> {
    let mut left: BTreeSet<&Module> = imports.keys().collect();
    loop {
        let imports_one = |module: &Module| imports[module].iter().any(|other| left.contains(other));
        let is_imported = |module: &Module| left.iter().any(|other| imports[*other].contains(module));
        let next: BTreeSet<_> =
            left.iter().copied().filter(|module| imports_one(module) && is_imported(module)).collect();
        if next.len() == left.len() {
            break;
        }
        left = next;
    }
    let names: Vec<_> = left.into_iter().map(|module| module.join("/")).collect();
    (!names.is_empty()).then(|| names.join(" ↔ "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(files: &[(&str, &str)]) -> Option<String> {
        let parse = |(path, text): &(&str, &str)| (module_of(path), syn::parse_file(text).unwrap());
        circle_of(&imports_of(&files.iter().map(parse).collect()))
    }

    #[test]
    fn a_circle_is_found_through_groups_renames_and_paths() {
        let found = circle(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::{b::B as X, d};"),
            ("b.rs", "use super::c::f;"),
            ("c.rs", "pub fn f() { crate::a::g(); }"),
            ("d.rs", "pub fn h() {}"),
        ]);
        assert_eq!(found.as_deref(), Some("a ↔ b ↔ c"));
    }

    #[test]
    fn a_module_with_its_folder_and_a_test_are_no_circle() {
        let found = circle(&[
            ("a.rs", "mod b; use b::B;"),
            ("a/b.rs", "use super::A; use crate::c::C;"),
            ("c.rs", "pub struct C; #[cfg(test)] mod tests { use crate::a::A; }"),
        ]);
        assert_eq!(found, None);
    }

    #[test]
    fn comments_and_tests_are_no_code_lines() {
        let file = |text: &str| FileSize::of(tokens_of(text).unwrap());
        let code = "//! Head\n\n/// Item\nfn f() { // why\n    g(\"a\n b\");\n}\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nfn t() {\n}\n";
        let files = [(vec![], file(code)), (vec!["tests".to_owned()], file("fn t() {}"))];
        assert_eq!(code_lines(&files.into_iter().collect()), 4);
    }
}
