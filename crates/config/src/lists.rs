//! A configuration checked along with the endpoint lists that its `file:` targets name.
//!
//! Nothing here reads a file: the caller does. What a list says wrong is reported with its own lines, and a list that cannot be read
//! at the target that names it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use evenkeel_balance::EndpointSpec;

use crate::errors::{Fault, Reports};
use crate::model::Config;
use crate::raw::{RawConfig, Read};
use crate::resolve::{resolve, written_targets};
use crate::target::Target;
use crate::zone::Zone;
use crate::{CONFIG_BUDGET, ConfigErrors, parse_endpoints, read_with};

/// Reads a configuration as [`parse_in_zone`](crate::parse_in_zone) does, and the lists of its `file:` targets that have a weight.
/// `read` gets a list's path and returns its text, or why there is none and what to do; it is asked once for each path.
///
/// Returns the configuration, or what is wrong with it, lists that cannot be read included; and for each list at fault, in the order
/// of the targets, what is wrong with it.
pub fn parse_with_lists(
    source_name: &str,
    text: &str,
    zone: Option<&Zone>,
    read: impl FnMut(&Path) -> Result<String, String>,
) -> (Result<Config, ConfigErrors>, Vec<ConfigErrors>) {
    let mut of_lists = Vec::new();
    let config = read_with(source_name, text, CONFIG_BUDGET, |root, reports| {
        let mut raw = RawConfig::read(root, reports)?;
        if let Some(zone) = zone {
            zone.place(&mut raw);
        }
        let (lists, errors) = Lists::read(&raw, read, reports);
        of_lists = errors;
        Some(resolve(&raw, &lists, reports))
    });
    (config, of_lists)
}

/// The endpoint lists of a configuration's targets, as far as they were read.
#[derive(Default)]
pub(crate) struct Lists(HashMap<PathBuf, Vec<EndpointSpec>>);

impl Lists {
    /// Those of all targets with a weight, and what is wrong with each that is at fault.
    fn read(
        raw: &RawConfig,
        mut read: impl FnMut(&Path) -> Result<String, String>,
        reports: &mut Reports,
    ) -> (Self, Vec<ConfigErrors>) {
        let (mut lists, mut of_lists) = (Self::default(), Vec::new());
        // Why each list was not read; `None` if it was.
        let mut known: HashMap<&Path, Option<String>> = HashMap::new();
        let clusters = raw.clusters.given().into_iter().flat_map(|list| &list.value.entries);
        for (at, target, has_weight) in clusters.flat_map(|cluster| written_targets(&cluster.value)) {
            let Target::File(path) = target else { continue };
            // Without a weight it is never read.
            if !has_weight {
                continue;
            }
            let problem = known.entry(path).or_insert_with(|| match read(path) {
                Ok(text) => {
                    match parse_endpoints(&path.display().to_string(), &text) {
                        Ok(endpoints) => drop(lists.0.insert(path.clone(), endpoints)),
                        Err(errors) => of_lists.push(errors),
                    }
                    None
                }
                Err(problem) => Some(problem),
            });
            if let Some(problem) = problem {
                let path = path.display().to_string();
                reports.add(at, Fault::UnreadableList { path, problem: problem.clone() });
            }
        }
        (lists, of_lists)
    }

    /// The endpoints of a list; none if it was not read.
    pub(crate) fn endpoints(&self, path: &Path) -> &[EndpointSpec] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }
}
