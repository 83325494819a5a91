//! The syntax tree of a query.
//!
//! Chains (`a AND b AND c`, `a + b - c`) are lists, so a tree is never deeper than the parentheses
//! and `NOT`s of the text.

use serde_json::Number;

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Maximum number of rows.
    pub top: Option<u64>,
    /// The members of each row.
    pub projection: Projection,
    /// The collection of documents.
    pub source: Source,
    /// The condition that selects documents; `None` for all.
    pub condition: Option<Condition>,
    /// The properties to group by; empty without `GROUP BY`.
    pub group_by: Vec<Path>,
}

/// A collection of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The twins of devices.
    Devices,
    /// The twins of modules.
    Modules,
    /// The records of devices in jobs.
    Jobs,
}

/// The members of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// The whole document (`*`).
    All,
    /// These items, at least one.
    Items(Vec<ProjectionItem>),
}

/// One member of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionItem {
    /// The value.
    pub value: ProjectionValue,
    /// The name in the answer, if given.
    pub alias: Option<String>,
}

/// The value of a member of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectionValue {
    /// A member of each document.
    Path(Path),
    /// An aggregate of many documents.
    Aggregate(Aggregate),
}

/// An aggregate: one value computed from many documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// The number of documents.
    Count,
    /// The mean of a member.
    Average(Path),
    /// The sum of a member.
    Sum(Path),
    /// The smallest value of a member.
    Minimum(Path),
    /// The largest value of a member.
    Maximum(Path),
}

/// The path to a member of a document. The first name is a root name, in the document's spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    pub(super) segments: Vec<String>,
}

impl Path {
    /// The names, at least one.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
}

/// An expression used as a condition.
pub type Condition = Expression;

/// An expression: it has a value or is undefined.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A constant.
    Constant(Constant),
    /// A member of the document; undefined if it is absent.
    Path(Path),
    /// Whether at least one of the parts (two or more) is true.
    Or(Vec<Self>),
    /// Whether all parts (two or more) are true.
    And(Vec<Self>),
    /// Whether the part is false.
    Not(Box<Self>),
    /// A comparison of two values.
    Comparison {
        /// The comparison.
        operator: ComparisonOperator,
        /// The left operand.
        left: Box<Self>,
        /// The right operand.
        right: Box<Self>,
    },
    /// Whether a value is in a list.
    In {
        /// The value.
        value: Box<Self>,
        /// The list, not empty.
        list: Vec<Constant>,
        /// Whether the value must be absent from the list (`NIN`).
        negated: bool,
    },
    /// A chain of additions and subtractions, or one of multiplications and divisions.
    Arithmetic {
        /// The first operand.
        first: Box<Self>,
        /// The further operands, at least one, all of one precedence; evaluated from left to
        /// right.
        rest: Vec<(ArithmeticOperator, Self)>,
    },
    /// A function call.
    Call {
        /// The function.
        function: Function,
        /// The arguments, as many as the function takes.
        arguments: Vec<Self>,
    },
}

impl Expression {
    /// Every path that it reads, each as often as it reads it.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths = Vec::new();
        self.add_paths(&mut paths);
        paths
    }

    fn add_paths<'a>(&'a self, paths: &mut Vec<&'a Path>) {
        match self {
            Self::Constant(_) => {}
            Self::Path(path) => paths.push(path),
            Self::Or(parts) | Self::And(parts) => {
                parts.iter().for_each(|part| part.add_paths(paths));
            }
            Self::Not(part) | Self::In { value: part, .. } => part.add_paths(paths),
            Self::Comparison { left, right, .. } => {
                left.add_paths(paths);
                right.add_paths(paths);
            }
            Self::Arithmetic { first, rest } => {
                first.add_paths(paths);
                rest.iter().for_each(|(_, part)| part.add_paths(paths));
            }
            Self::Call { arguments, .. } => {
                arguments.iter().for_each(|part| part.add_paths(paths));
            }
        }
    }
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// The value of an absent member.
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

/// A comparison operator.
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

/// An arithmetic operator.
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
    /// Whether its argument, a path, leads to a member, null included.
    IsDefined,
    /// Whether the first text starts with the second.
    StartsWith,
    /// Whether the first text ends with the second.
    EndsWith,
}

impl Function {
    pub(super) const ALL: [Self; 3] = [Self::IsDefined, Self::StartsWith, Self::EndsWith];

    /// The function's name in a query.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IsDefined => "IS_DEFINED",
            Self::StartsWith => "STARTSWITH",
            Self::EndsWith => "ENDSWITH",
        }
    }

    /// Number of arguments.
    #[must_use]
    pub const fn arity(self) -> usize {
        match self {
            Self::IsDefined => 1,
            Self::StartsWith | Self::EndsWith => 2,
        }
    }
}
