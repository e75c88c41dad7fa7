//! Addresses and paths that two keys name.

use evenkeel_config::parse;

const GOOD: &str = "listeners: [{address: '0.0.0.0:50051', routes: [{cluster: orders}]}]
clusters: [{name: orders, target: 'dns:///orders:50051'}]
";

#[test]
fn what_is_taken_is_a_port_or_a_path() {
    let help = |address: &str| {
        let text = format!("admin: {{address: '{address}'}}\n{}", GOOD.replace("0.0.0.0:50051", address));
        parse("text", &text).unwrap_err().errors()[0].fault.help()
    };
    assert_eq!(help("127.0.0.1:50051").as_deref(), Some("give each its own port"));
    assert_eq!(help("unix:/run/evenkeel").as_deref(), Some("give each its own path"));
}
