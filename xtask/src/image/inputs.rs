//! The inputs of the Dockerfile that have more than one way in, and the refusal of two that differ.
//!
//! A lock comes by `--lock`, by `MODELS_LOCK`, as for `docker buildx bake`, or by docker's `--build-arg`. The checks of
//! the layers read one lock; were another one built, they would mean nothing.

use camino::{Utf8Path, Utf8PathBuf};

use crate::project;

/// The build argument with the lock's path.
const LOCK: &str = "MODELS_LOCK";

/// The build arguments that an environment variable sets too, as for `docker buildx bake`.
const VARIABLES: [&str; 4] = [LOCK, "MODELS_DIR", "RUNTIME_IMAGE", "RUST_IMAGE"];

/// The options of this command that docker has, too.
const OPTIONS: [(&str, &str); 4] =
    [("--target", "--target"), ("--platform", "--platform"), ("--file", "--file"), ("-f", "--file")];

/// The inputs, each from one place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// The lock, if one is given.
    pub(crate) lock: Option<Utf8PathBuf>,
    /// The other options for docker.
    pub(crate) docker: Vec<String>,
}

/// Chooses the inputs. `lock` is the value of `--lock`, `variable` reads the environment, `docker` are the options for
/// docker.
///
/// # Errors
/// Two values for one input, with the names of both.
pub(crate) fn choose(
    lock: Option<&Utf8Path>,
    variable: impl Fn(&str) -> Option<String>,
    docker: &[String],
) -> Result<Inputs, String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut given: Vec<(&str, String, String)> = Vec::new();
    for name in VARIABLES {
        given.extend(variable(name).map(|value| (name, format!("{name} in the environment"), value)));
    }
    let (mut rest, mut options) = (Vec::new(), docker.iter());
    while let Some(option) = options.next() {
        let (name, mut value) = option
            .split_once('=')
            .map_or((&option[..], None), |(name, value)| (name, Some(value.to_owned())));
        if let Some((_, own)) = OPTIONS.iter().find(|(theirs, _)| *theirs == name) {
            return Err(format!("docker's {name} after -- would replace {own}: give {own} before --"));
        }
        if name != "--build-arg" {
            rest.push(option.clone());
            continue;
        }
        value = value.or_else(|| options.next().cloned());
        let argument = value.unwrap_or_default();
        // Without a value, docker takes that of the environment variable.
        let (name, value) = argument.split_once('=').map_or_else(
            || (&argument[..], variable(&argument)),
            |(name, value)| (name, Some(value.to_owned())),
        );
        match (VARIABLES.iter().find(|known| **known == name), value) {
            (Some(known), Some(value)) => given.push((known, format!("--build-arg {name}"), value)),
            _ => rest.extend(["--build-arg".to_owned(), argument]),
        }
    }
    let mut chosen = Inputs { lock: lock.map(Utf8Path::to_owned), docker: rest };
    for name in VARIABLES {
        let mut ways = given.iter().filter(|(given, ..)| *given == name).map(|(_, way, value)| {
            // Docker's paths are relative to the context.
            (way.as_str(), if name == LOCK { project::root().join(value) } else { value.into() })
        });
        let option = (name == LOCK).then_some(lock).flatten().map(|lock| ("--lock", lock.to_owned()));
        let Some(first) = option.or_else(|| ways.next()) else { continue };
        if let Some(other) = ways.find(|way| !same(&way.1, &first.1)) {
            let ((first, one), (second, two)) = (first, other);
            return Err(format!(
                "{first} and {second} contradict each other, {one} and {two}: give one of them"
            ));
        }
        if name == LOCK {
            chosen.lock = Some(first.1);
        } else {
            chosen.docker.extend(["--build-arg".to_owned(), format!("{name}={}", first.1)]);
        }
    }
    Ok(chosen)
}

/// True for equal values, and for two paths of one file.
fn same(one: &Utf8Path, other: &Utf8Path) -> bool {
    let real = |path: &Utf8Path| path.canonicalize_utf8().ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_from(
        lock: Option<&str>,
        variables: &[(&str, &str)],
        docker: &[&str],
    ) -> Result<Inputs, String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let docker: Vec<_> = docker.iter().map(|option| (*option).to_owned()).collect();
        choose(lock.map(Utf8Path::new), find, &docker)
    }

    fn lock_of(lock: Option<&str>, variables: &[(&str, &str)], docker: &[&str]) -> Option<Utf8PathBuf> {
        let inputs = choose_from(lock, variables, docker).unwrap();
        assert_eq!(inputs.docker, [""; 0]);
        inputs.lock
    }

    #[test]
    fn a_lock_has_three_ways_in() {
        assert_eq!(lock_of(None, &[], &[]), None);
        assert_eq!(lock_of(Some("a.lock"), &[], &[]), Some("a.lock".into()));
        let in_context = Some(project::root().join("a.lock"));
        assert_eq!(lock_of(None, &[(LOCK, "a.lock")], &[]), in_context);
        assert_eq!(lock_of(None, &[], &["--build-arg", "MODELS_LOCK=a.lock"]), in_context);
        assert_eq!(lock_of(None, &[], &["--build-arg=MODELS_LOCK=a.lock"]), in_context);
        assert_eq!(lock_of(None, &[(LOCK, "a.lock")], &["--build-arg", LOCK]), in_context);
    }

    #[test]
    fn one_file_by_two_ways_is_no_contradiction() {
        let (own, other) = (project::lock(), project::root().join("xtask/../models.lock"));
        let variables = [(LOCK, other.as_str())];
        assert_eq!(lock_of(Some(&own), &variables, &[]), Some(own.into()));
    }

    #[test]
    fn two_values_for_one_input_are_refused_by_their_names() {
        let refuses = |lock, variables: &[(&str, &str)], docker: &[&str], names: [&str; 2]| {
            let message = choose_from(lock, variables, docker).unwrap_err();
            assert!(names.iter().all(|name| message.contains(name)), "{message}");
        };
        let argument = ["--build-arg", "MODELS_LOCK=b.lock"];
        refuses(Some("a.lock"), &[(LOCK, "b.lock")], &[], ["--lock", "MODELS_LOCK in the environment"]);
        refuses(Some("a.lock"), &[], &argument, ["--lock", "--build-arg MODELS_LOCK"]);
        refuses(None, &[(LOCK, "a.lock")], &argument, ["in the environment", "--build-arg MODELS_LOCK"]);
        for name in ["MODELS_DIR", "RUNTIME_IMAGE", "RUST_IMAGE"] {
            let docker = [&format!("--build-arg={name}=b")[..], "--build-arg", &format!("{name}=c")];
            refuses(None, &[(name, "a")], &docker[..1], [name, "--build-arg"]);
            refuses(None, &[], &docker, [name, "contradict"]);
        }
        for option in ["--target", "--platform=linux/arm64", "-f", "--file=x"] {
            refuses(None, &[], &[option, "x"], ["after --", "before --"]);
        }
    }

    #[test]
    fn other_options_reach_docker_as_they_are() {
        let docker = ["--no-cache", "--build-arg", "OTHER=1", "--build-arg", "EMPTY", "--tag", "x"];
        let inputs = choose_from(None, &[("RUNTIME_IMAGE", "mine"), ("MODELS_DIR", "")], &docker).unwrap();
        let expected = [&docker[..], &["--build-arg", "RUNTIME_IMAGE=mine"]].concat();
        assert_eq!(inputs.docker, expected);
    }
}
