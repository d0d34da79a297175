//! The three rules compiled natively, in the same engine. The difference to the rules in Wasm is the price of the sandbox.

use weir_core::column::Column;
use weir_core::pipeline::OnFault;
use weir_core::pipeline::{Evaluate, Fault, Manifest, Outcome, Pipeline, Stage, View};
use weir_rule::abi::{self, Loaded};

type Rule = Box<dyn Fn(&abi::Batch) -> abi::Outcome>;

/// A rule that runs natively in this process.
pub struct Native(Rule);

/// Returns a pipeline of the three rules with their default configurations.
pub fn pipeline() -> anyhow::Result<Pipeline<Native>> {
    let stages = vec![
        stage::<validation::Validation>()?,
        stage::<utc_enrichment::UtcEnrichment>()?,
        stage::<device_filter::DeviceFilter>()?,
    ];
    Pipeline::new(stages, "device_type").map_err(anyhow::Error::msg)
}

fn stage<R: weir_rule::Rule + 'static>() -> anyhow::Result<Stage<Native>> {
    let (loaded, manifest) = Loaded::<R>::configure("{}").map_err(anyhow::Error::msg)?;
    let abi::Manifest { name, version, description, reads, writes, reasons, .. } = manifest;
    let manifest = Manifest { name, version, description, reads, writes, reasons };
    Ok(Stage {
        manifest,
        drop: false,
        on_fault: OnFault::DeadLetter,
        rule: Native(Box::new(move |batch| loaded.evaluate(batch))),
    })
}

impl Evaluate for Native {
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        let columns = view.columns.iter().map(|column| abi::Column {
            kinds: column.kinds.clone(),
            ends: column.ends.clone(),
            bytes: column.bytes.clone(),
        });
        let batch = abi::Batch { rows: view.rows as u32, processed_at: view.processed_at, columns: columns.collect() };
        let outcome = (self.0)(&batch);
        let columns = outcome.columns.into_iter();
        Ok(Outcome {
            rejections: outcome.rejections.into_iter().map(|found| (found.row, found.reason, found.detail)).collect(),
            columns: columns.map(|column| Column { kinds: column.kinds, ends: column.ends, bytes: column.bytes }).collect(),
        })
    }
}
