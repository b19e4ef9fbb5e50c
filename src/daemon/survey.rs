//! What is wrong with the host's IOMMU: told once, at the start, by the one who
//! would otherwise be blamed when a virtual machine does not start.

use super::journal;
use crate::kernel::helper::{
    pool::Pool,
    protocol::{Reply, Request},
};

/// Has a helper look, and tells what it finds whenever that is.
pub(super) fn tell(pool: &Pool) {
    let pool = pool.clone();
    tokio::spawn(async move {
        match pool.call(&Request::Survey).await {
            Ok(Reply::Surveyed(sentences)) => {
                sentences.iter().for_each(|text| journal::iommu(text))
            }
            Ok(_) => {
                tracing::warn!("the IOMMU cannot be looked at: a helper answers something else")
            }
            Err(error) => tracing::warn!("the IOMMU cannot be looked at: {error}"),
        }
    });
}
