//! `cargo lab imports`: no circle of imports between the files of a crate. Cargo refuses circles between crates only.
//!
//! A file imports another when a `use` or a path in its code, tests left out, leads into that file's module. A module
//! and the files of its own folder count as one room: `fetch.rs` may use `fetch/plan.rs`, which may use it in turn.

#![expect(clippy::print_stdout, reason = "the result is what the command is run for")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use syn::visit::Visit;
use xshell::{Shell, cmd};

use crate::project;

/// A module's path from the crate's root, which is empty.
type Module = Vec<String>;

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    let listed = cmd!(sh, "git ls-files --cached --others --exclude-standard -- *.rs").quiet().read()?;
    let mut crates = BTreeMap::<&str, BTreeMap<Module, syn::File>>::new();
    for path in listed.lines().filter(|path| sh.path_exists(path)) {
        if let Some((root, file)) = path.split_once("/src/") {
            let code = syn::parse_file(&sh.read_file(path)?).with_context(|| path.to_owned())?;
            crates.entry(root).or_default().insert(module_of(file), code);
        }
    }
    let circle = |(root, modules): (&&str, _)| Some(format!("{root}: {}", circle_of(&imports_of(modules))?));
    let circles: Vec<_> = crates.iter().filter_map(circle).collect();
    println!("{} crates, {} with a circle", crates.len(), circles.len());
    ensure!(circles.is_empty(), "files import each other in a circle:\n  {}", circles.join("\n  "));
    Ok(())
}

/// The module of a file below `src/`.
fn module_of(file: &str) -> Module {
    let names = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    names.filter(|name| !matches!(name.as_str(), "lib" | "main" | "mod")).collect()
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
}
