//! What a query is made of.
//!
//! Chains (`a AND b AND c`, `a + b - c`) are lists, so that a tree is never deeper than the text's
//! own parentheses and `NOT`s make it.

use serde_json::Number;

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The most rows.
    pub top: Option<u64>,
    /// What of each document.
    pub projection: Projection,
    /// Which documents.
    pub source: Source,
    /// Which of them.
    pub condition: Option<Condition>,
    /// What to count or sum by; empty if nothing.
    pub group_by: Vec<Path>,
}

/// Which documents are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The twins of devices.
    Devices,
    /// The twins of modules.
    Modules,
    /// The records of devices in jobs.
    Jobs,
}

/// What of each document is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// All of it.
    All,
    /// These, of which there is at least one.
    Items(Vec<ProjectionItem>),
}

/// One thing that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionItem {
    /// What it is.
    pub value: ProjectionValue,
    /// What it is called in the answer.
    pub alias: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectionValue {
    /// A member of each document.
    Path(Path),
    /// One value for many documents.
    Aggregate(Aggregate),
}

/// One value for many documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// How many there are.
    Count,
    /// The mean of a member.
    Average(Path),
    /// The sum of a member.
    Sum(Path),
    /// The least of a member.
    Minimum(Path),
    /// The greatest of a member.
    Maximum(Path),
}

/// The names that lead to a member of a document; the first is one of the document's own, in its
/// own spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    pub(super) segments: Vec<String>,
}

impl Path {
    /// The names, of which there is at least one.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
}

/// An expression that is to be true.
pub type Condition = Expression;

/// Something that has a value, or is undefined.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// Itself.
    Constant(Constant),
    /// A member of the document; undefined if there is none.
    Path(Path),
    /// Whether at least one of them (two or more) is true.
    Or(Vec<Self>),
    /// Whether all of them (two or more) are true.
    And(Vec<Self>),
    /// Whether it is false.
    Not(Box<Self>),
    /// How two values compare.
    Comparison {
        /// What is asked.
        operator: ComparisonOperator,
        /// The value before the operator.
        left: Box<Self>,
        /// The value after it.
        right: Box<Self>,
    },
    /// Whether a value is in a list.
    In {
        /// The value.
        value: Box<Self>,
        /// The list, of one or more.
        list: Vec<Constant>,
        /// Whether it is to be absent from it (`NIN`).
        negated: bool,
    },
    /// A chain of additions and subtractions, or one of multiplications and divisions.
    Arithmetic {
        /// The first value.
        first: Box<Self>,
        /// What follows it, one or more, all of one rank; to be done from left to right.
        rest: Vec<(ArithmeticOperator, Self)>,
    },
    /// A function of values.
    Call {
        /// The function.
        function: Function,
        /// As many as the function takes.
        arguments: Vec<Self>,
    },
}

/// A value that stands in the text.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// What a member is that is not there.
    Undefined,
    /// JSON's null.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// An `i64`, or else a finite `f64`.
    Number(Number),
    /// Text.
    String(String),
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparisonOperator {
    /// `=`
    Equal,
    /// `!=` or `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// What is done with two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArithmeticOperator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

impl ArithmeticOperator {
    /// Whether it binds more tightly than `+` and `-`.
    pub(super) const fn is_product(self) -> bool {
        matches!(self, Self::Multiply | Self::Divide | Self::Remainder)
    }
}

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Whether its argument, a path, leads to a member, null or not.
    IsDefined,
    /// Whether the first text begins with the second.
    StartsWith,
    /// Whether the first text ends with the second.
    EndsWith,
}

impl Function {
    pub(super) const ALL: [Self; 3] = [Self::IsDefined, Self::StartsWith, Self::EndsWith];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IsDefined => "IS_DEFINED",
            Self::StartsWith => "STARTSWITH",
            Self::EndsWith => "ENDSWITH",
        }
    }

    /// How many arguments it takes.
    #[must_use]
    pub const fn arity(self) -> usize {
        match self {
            Self::IsDefined => 1,
            Self::StartsWith | Self::EndsWith => 2,
        }
    }
}
