use crate::Policy;
use crate::balancer::tests::fixture::Fixture;

#[test]
fn each_endpoint_is_equally_likely_whatever_its_weight() {
    let mut fixture = Fixture::ready(Policy::Random, &[1, 10, 1, 1, 100], 1);
    // 100,000 draws at 1/5: the standard deviation is 126, six of them 759.
    for count in fixture.counts(5, 100_000) {
        assert!(count.abs_diff(20_000) < 760, "{count} of 100,000");
    }
}
