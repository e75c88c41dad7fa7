use super::*;

/// A checkout with one peer's pins, and nothing installed.
fn checkout() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let peers = root.path().join("target/peers");
    fs::create_dir_all(peers.join("bin")).unwrap();
    fs::create_dir_all(peers.join("stamps")).unwrap();
    (root, peers)
}

fn site<'a>(workspace: &'a Workspace, peers: &Path) -> Site<'a> {
    Site { pins: PathBuf::from("unused"), peers: peers.to_owned(), workspace }
}

const PEER: Peer = Peer {
    name: "echo",
    what: "a program for these tests",
    source: Source::Debian { packages: &["echo"] },
    programs: &[catalog::Program { name: "echo", version_args: &["-v"], version_mark: "version" }],
};

fn write_program(peers: &Path, script: &str) {
    let path = peers.join("sh");
    fs::write(&path, script).unwrap();
    // A launcher of the real kind: the tests need no other way to make a file executable.
    let workspace = Workspace::find().unwrap();
    let launcher = launcher::Launcher { exec: "/bin/sh".into(), search_path: None };
    launcher.write(&site(&workspace, peers), "echo").unwrap();
    let text = fs::read_to_string(peers.join("bin/echo")).unwrap();
    let text = text.replace("\"/bin/sh\"", "\"/bin/sh\" \"$peers/sh\"");
    fs::write(peers.join("bin/echo"), text).unwrap();
}

#[test]
fn every_peer_brings_programs_and_no_two_share_a_name() {
    let mut names: Vec<&str> =
        PEERS.iter().flat_map(|peer| peer.programs).map(|program| program.name).collect();
    assert!(PEERS.iter().all(|peer| !peer.programs.is_empty()));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn every_go_module_is_pinned() {
    let workspace = Workspace::find().unwrap();
    let manifest = Site::new(&workspace).pinned(go::MANIFEST).unwrap();
    for peer in &PEERS {
        if let Source::Go { module, .. } = peer.source {
            assert!(go::pinned_version(&manifest, module).unwrap().starts_with('v'), "{module}");
        }
    }
}

#[test]
fn an_unknown_name_is_refused_with_those_that_there_are() {
    let error = choose(&["haproxi".to_owned()]).unwrap_err().to_string();
    assert!(error.starts_with("no peer is called `haproxi`; there are: haproxy, nginx, "), "{error}");
    assert_eq!(choose(&["nginx".to_owned()]).unwrap()[0].name, "nginx");
    assert_eq!(choose(&[]).unwrap().len(), PEERS.len());
}

#[test]
fn pins_are_exact() {
    let workspace = Workspace::find().unwrap();
    let site = Site::new(&workspace);
    for file in ["requirements.txt", "envoy.txt"] {
        for line in site.pinned(file).unwrap().lines().filter(|line| !line.starts_with('#')) {
            assert!(line.contains("==") && !line.contains('*'), "{file}: {line}");
        }
    }
    let manifest: serde_json::Value = serde_json::from_str(&site.pinned(node::MANIFEST).unwrap()).unwrap();
    for (package, version) in manifest["dependencies"].as_object().unwrap() {
        assert!(
            version.as_str().unwrap().chars().all(|c| c.is_ascii_digit() || c == '.'),
            "{package} {version}"
        );
    }
}

#[test]
fn a_stamp_holds_only_for_the_recipe_it_was_written_for() {
    let (_root, peers) = checkout();
    let workspace = Workspace::find().unwrap();
    let site = site(&workspace, &peers);
    assert!(!is_current(&site, &PEER, "echo"));
    fs::write(site.stamp(&PEER), "echo").unwrap();
    assert!(is_current(&site, &PEER, "echo"));
    assert!(!is_current(&site, &PEER, "echo\nother"));
}

#[test]
fn a_program_must_be_there_and_run_and_name_its_version() {
    let (_root, peers) = checkout();
    let workspace = Workspace::find().unwrap();
    let site = site(&workspace, &peers);
    let outcome = || versions(&site, &PEER).map_err(|error| one_line(&error));
    assert_eq!(outcome().unwrap_err(), "its program echo was not installed");
    write_program(&peers, "echo hello");
    assert_eq!(outcome().unwrap_err(), "its program echo names no version");
    write_program(&peers, "echo hello; echo ' version 7' >&2");
    assert_eq!(outcome().unwrap(), "echo 7");
    write_program(&peers, "echo 'version 7'; echo 'no libx.so' >&2; exit 127");
    let reason = outcome().unwrap_err();
    assert!(reason.starts_with("its program echo does not run: "), "{reason}");
    assert!(reason.ends_with("no libx.so"), "{reason}");
}
