//! `graticule explain`: plan, tiles, scenes, bytes and memory; no pixel is read.

use clap::Args;
use graticule_common::proto::v1 as pb;

use crate::Global;
use crate::failure::{Failure, say};
use crate::request::RequestArgs;

/// Show what `compute` would do.
#[derive(Args, Debug)]
pub struct Explain {
    #[command(flatten)]
    request: RequestArgs,
    /// Print the expression as a graft with every name resolved, and nothing else
    #[arg(long = "graft")]
    as_graft: bool,
}

impl Explain {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let request = self.request.message()?;
        let (mut client, engine) = self.request.connect(global).await?;
        let answer = client.explain(pb::ExplainRequest { request: Some(request) }).await;
        let answer = answer.map_err(|status| Failure::status(&status))?.into_inner();
        if self.as_graft {
            say!("{}", answer.graft);
        } else {
            say!("{}", answer.text.trim_end());
            let bill = answer.bill.unwrap_or_default();
            say!("scenes  {} to read", bill.scenes);
            say!(
                "reads   {} bytes of stored pixels, {} pixels of the grid",
                bill.read_bytes,
                bill.read_pixels
            );
            say!("result  {} bytes", bill.result_bytes);
            say!("memory  {} bytes at most for one tile", bill.tile_peak_bytes);
            say!("cpu     {:.2} s of one core, about", bill.cpu_s);
        }
        match engine {
            Some(engine) => engine.stop().await,
            None => Ok(()),
        }
    }
}
