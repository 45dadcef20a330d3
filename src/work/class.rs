//! Classes of miners, by the coinbase that they can handle.

/// Which of a job's coinbases; also the class of miners that it is made for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum CoinbaseClass {
    /// The payout script alone: blank work while the pool's split is awaited.
    Tiny,
    /// Rentals that refuse larger ones.
    Small,
    /// Old Antminers: a long coinb1, the extranonce in an OP_RETURN.
    Default,
    Respectable,
    Huge,
    S21,
    /// Subsidy-only work, the same for all classes. It comes last, so that its number counts the
    /// others.
    Empty,
}

impl CoinbaseClass {
    /// Those of miners. Leaving one out does not compile.
    pub const CLASSES: [Self; Self::Empty as usize] =
        [Self::Tiny, Self::Small, Self::Default, Self::Respectable, Self::Huge, Self::S21];
    /// Including the subsidy-only one.
    pub(crate) const COUNT: usize = Self::CLASSES.len() + 1;

    /// The id as it crosses the wire: 0 to 5, or 0xFF.
    pub const fn wire(self) -> u8 {
        match self {
            Self::Empty => 0xFF,
            class => class as u8,
        }
    }

    /// An index of its own, below `COUNT`.
    pub(crate) const fn slot(self) -> usize {
        self as usize
    }

    /// Bytes that a whole coinbase (without witness) may have for this firmware to survive it.
    pub(crate) const fn limit(self) -> usize {
        match self {
            // No splits at all: as small as it gets.
            Self::Tiny | Self::Empty => 0,
            Self::Small => 500,
            Self::Default => 755,
            Self::Respectable => 6500,
            Self::Huge => 16000,
            Self::S21 => 2250,
        }
    }

    /// The roomiest class of at most `bytes`.
    pub(crate) fn within(bytes: usize) -> Self {
        let fits = Self::CLASSES.into_iter().filter(|class| class.limit() <= bytes);
        fits.max_by_key(|class| class.limit()).unwrap_or(Self::Tiny)
    }
}
