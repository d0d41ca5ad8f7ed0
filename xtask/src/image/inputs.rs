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

/// The options of docker that this command has, too.
const OPTIONS: [&str; 4] = ["--target", "--platform", "--file", "-f"];

/// The inputs, each from one place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// The lock, if one is given.
    pub(crate) lock: Option<Utf8PathBuf>,
    /// The other build arguments as options for docker.
    pub(crate) options: Vec<String>,
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
    let mut names = docker.iter().map(|option| option.split_once('=').map_or(&option[..], |(name, _)| name));
    if let Some(name) = names.find(|name| OPTIONS.contains(name)) {
        return Err(format!("docker's {name} after -- would replace cargo xtask image's: give it before --"));
    }
    let apart = docker.windows(2).filter(|pair| pair[0] == "--build-arg").map(|pair| &pair[1][..]);
    let joined = docker.iter().filter_map(|option| option.strip_prefix("--build-arg="));
    let arguments: Vec<(&str, &str)> = apart.chain(joined).filter_map(|text| text.split_once('=')).collect();
    let mut inputs = Inputs::default();
    for name in VARIABLES {
        // Docker's paths are relative to the context.
        let value = |text: &str| if name == LOCK { project::root().join(text) } else { text.into() };
        let option = lock.filter(|_| name == LOCK).map(|lock| ("--lock".to_owned(), lock.to_owned()));
        let set = variable(name).filter(|text| !text.is_empty());
        let set = set.map(|text| (format!("{name} in the environment"), value(&text)));
        let given = arguments.iter().filter(|(given, _)| *given == name);
        let given = given.map(|(_, text)| (format!("--build-arg {name}"), value(text)));
        let mut ways = option.into_iter().chain(set).chain(given);
        let Some((first, one)) = ways.next() else { continue };
        if let Some((second, two)) = ways.find(|(_, two)| !same(&one, two)) {
            return Err(format!(
                "{first} and {second} contradict each other, {one} and {two}: give one of them"
            ));
        }
        if name == LOCK {
            inputs.lock = Some(one);
        } else {
            inputs.options.push(format!("--build-arg={name}={one}"));
        }
    }
    Ok(inputs)
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
        assert_eq!(inputs.options, [""; 0]);
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
    fn a_value_of_the_environment_is_a_build_argument() {
        let docker = ["--no-cache", "--build-arg", "OTHER=1", "--build-arg", "MODELS_DIR", "--tag", "x"];
        let inputs = choose_from(None, &[("RUNTIME_IMAGE", "mine"), ("MODELS_DIR", "")], &docker).unwrap();
        assert_eq!(inputs, Inputs { lock: None, options: vec!["--build-arg=RUNTIME_IMAGE=mine".to_owned()] });
    }
}
