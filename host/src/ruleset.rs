//! An immutable set of compiled rules, loaded and proven off the data path, swapped as a whole.

use crate::config;
use crate::pipeline::Pipeline;

/// Compiled and proven rules in their order, with the hash over their bytes and configuration.
pub struct RuleSet {
    hash: String,
}

impl RuleSet {
    /// Loads, compiles, configures and probes the rules of `config`.
    pub fn load(_config: &config::Config) -> anyhow::Result<RuleSet> {
        Ok(RuleSet { hash: String::new() })
    }

    /// Hash of the rules' order, bytes and configuration: 16 hexadecimal digits, as in the header `weir-ruleset`.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// A pipeline with fresh instances of the rules.
    pub fn instantiate(&self) -> anyhow::Result<Pipeline<()>> {
        anyhow::bail!("tbd")
    }
}
