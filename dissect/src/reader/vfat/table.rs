//! The allocation table: which cluster follows which.

use filetree::ReadError;

use super::Volume;
use super::boot::Width;

/// What the table says of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Cluster(u32),
    /// The last of its chain.
    End,
    /// No part of a chain.
    Free,
}

impl Volume {
    /// What follows `cluster`, which there is.
    pub(super) fn next(&self, cluster: u32) -> Result<Next, ReadError> {
        let (value, bad) = match self.boot.width {
            Width::Fat32 => (self.entry32(cluster)?, 0x0fff_fff7),
            Width::Fat16 => (self.entry16(u64::from(cluster) * 2)?, 0xfff7),
            Width::Fat12 => (self.entry12(cluster)?, 0xff7),
        };
        Ok(match value {
            0 => Next::Free,
            // As Linux does, a cluster that is marked as bad ends a chain.
            value if value >= bad => Next::End,
            value => Next::Cluster(value),
        })
    }

    fn entry32(&self, cluster: u32) -> Result<u32, ReadError> {
        let at = self.boot.table + u64::from(cluster) * 4;
        Ok(u32::from_le_bytes(self.array(at)?) & 0x0fff_ffff)
    }

    fn entry16(&self, at: u64) -> Result<u32, ReadError> {
        Ok(u16::from_le_bytes(self.array(self.boot.table + at)?).into())
    }

    /// Two entries have three bytes.
    fn entry12(&self, cluster: u32) -> Result<u32, ReadError> {
        let at = self.boot.table + u64::from(cluster) * 3 / 2;
        let [low] = self.array(at)?;
        let [high] = self.array(at + 1)?;
        let pair = u32::from(u16::from_le_bytes([low, high]));
        Ok(if cluster % 2 == 1 {
            pair >> 4
        } else {
            pair & 0xfff
        })
    }

    /// The chain that begins with `first`, one cluster after the other, at most as many as there are.
    pub(super) fn chain(&self, first: u32) -> Chain<'_> {
        Chain {
            volume: self,
            next: Some(first),
            left: self.boot.clusters,
        }
    }
}

/// The iterator of [`Volume::chain`]: the clusters and their first bytes.
pub(super) struct Chain<'a> {
    volume: &'a Volume,
    next: Option<u32>,
    left: u32,
}

impl Chain<'_> {
    fn step(&mut self, cluster: u32) -> Result<(u32, u64), ReadError> {
        let volume = self.volume;
        let damaged = |what| volume.source.damaged(volume.boot.table, what);
        let offset = volume
            .boot
            .offset(cluster)
            .ok_or_else(|| damaged("a chain has a cluster that there is not"))?;
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| damaged("a chain of clusters has no end"))?;
        self.next = match volume.next(cluster)? {
            Next::Cluster(next) => Some(next),
            Next::End => None,
            Next::Free => return Err(damaged("a chain leads to a free cluster")),
        };
        Ok((cluster, offset))
    }
}

impl Iterator for Chain<'_> {
    type Item = Result<(u32, u64), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let cluster = self.next.take()?;
        Some(self.step(cluster))
    }
}
