//! Text to [`Query`], by recursive descent.

use std::str::FromStr;

use super::cursor::Cursor;
use super::{
    AssociatorsOf, ClassQuery, Comparison, EventQuery, Expression, Literal, Operand, Projection, PropertyReference,
    Query, ReferencesOf, Select, WqlError,
};
use crate::cim::{ClassName, ObjectPath, PropertyName};

/// Most levels of parentheses and `NOT`.
const MAX_DEPTH: usize = 64;
/// Most predicates in one query; each is looked at for each instance.
const MAX_CONDITIONS: usize = 2_000;

/// What stands in place of the class in a query for classes.
const META_CLASS: &str = "META_CLASS";

impl FromStr for Query {
    type Err = WqlError;

    /// Parses a query. Keywords are taken in any case; a final semicolon is not part of WQL.
    fn from_str(text: &str) -> Result<Self, WqlError> {
        let mut parser = Parser::new(text);
        let query = parser.query()?;
        parser.end()?;
        Ok(query)
    }
}

/// Parses an event query.
pub(super) fn event_query(text: &str) -> Result<EventQuery, WqlError> {
    let mut parser = Parser::new(text);
    parser.cursor.keyword("SELECT")?;
    let projection = parser.list()?;
    if parser.cursor.at_keyword(META_CLASS) {
        return Err(parser.not_supported("events about classes (meta_class)"));
    }
    let class = ClassName::new(parser.cursor.name("a class name")?);
    let within = if parser.cursor.eat_keyword("WITHIN") { Some(parser.seconds()?) } else { None };
    let filter = parser.filter()?;
    parser.end()?;
    Ok(EventQuery { select: Select { projection, class, filter }, within })
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    depth: usize,
    conditions: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { cursor: Cursor::new(text), depth: 0, conditions: 0 }
    }

    fn end(&self) -> Result<(), WqlError> {
        if self.cursor.at_end() { Ok(()) } else { Err(self.cursor.expected("the end of the query")) }
    }

    /// The number behind `WITHIN`.
    fn seconds(&mut self) -> Result<f64, WqlError> {
        let before = self.cursor.clone();
        let seconds = if self.cursor.at_number() { Some(self.cursor.number()?) } else { None };
        match seconds {
            Some(Literal::Real(seconds)) if seconds >= 0.0 => Ok(seconds),
            Some(Literal::Integer(seconds)) if u32::try_from(seconds).is_ok() => {
                Ok(u32::try_from(seconds).map_or(0.0, f64::from))
            }
            _ => Err(before.expected("a number of seconds")),
        }
    }

    fn query(&mut self) -> Result<Query, WqlError> {
        if self.cursor.eat_keyword("SELECT") {
            return self.select();
        }
        let associators = self.cursor.eat_keyword("ASSOCIATORS");
        if !associators && !self.cursor.eat_keyword("REFERENCES") {
            return Err(self.cursor.expected("SELECT, ASSOCIATORS OF or REFERENCES OF"));
        }
        self.cursor.keyword("OF")?;
        let (position, path) = self.cursor.braces()?;
        let object = ObjectPath::parse(path).map_err(|error| WqlError::ObjectPath { position, error })?;
        if associators {
            self.associators(object).map(Query::AssociatorsOf)
        } else {
            self.references(object).map(Query::ReferencesOf)
        }
    }

    fn select(&mut self) -> Result<Query, WqlError> {
        let projection = self.list()?;
        if self.cursor.at_keyword(META_CLASS) {
            if projection != Projection::All {
                return Err(self.not_supported("a list of properties of classes (meta_class)"));
            }
            self.cursor.keyword(META_CLASS)?;
            return Ok(Query::Classes(ClassQuery { filter: self.filter()? }));
        }
        let class = ClassName::new(self.cursor.name("a class name")?);
        Ok(Query::Select(Select { projection, class, filter: self.filter()? }))
    }

    /// The condition, if there is one.
    fn filter(&mut self) -> Result<Option<Expression>, WqlError> {
        self.refuse_event_clauses()?;
        let filter = if self.cursor.eat_keyword("WHERE") { Some(self.or()?) } else { None };
        self.refuse_event_clauses()?;
        Ok(filter)
    }

    /// What stands between `SELECT` and the class.
    fn list(&mut self) -> Result<Projection, WqlError> {
        let projection = if self.cursor.eat("*") {
            Projection::All
        } else {
            let mut properties = vec![self.property("a property name or *")?];
            while self.cursor.eat(",") {
                properties.push(self.property("a property name")?);
            }
            Projection::Properties(properties)
        };
        self.cursor.keyword("FROM")?;
        Ok(projection)
    }

    /// `WITHIN`, `GROUP` and `HAVING` belong to event queries, which a subscription takes, not an enumeration.
    fn refuse_event_clauses(&self) -> Result<(), WqlError> {
        for (keyword, what) in [
            ("WITHIN", "the clause WITHIN of an event query"),
            ("GROUP", "the clause GROUP of an event query"),
            ("HAVING", "the clause HAVING of an event query"),
        ] {
            if self.cursor.at_keyword(keyword) {
                return Err(self.not_supported(what));
            }
        }
        Ok(())
    }

    fn not_supported(&self, what: &'static str) -> WqlError {
        WqlError::NotSupported { position: self.cursor.position(), what }
    }

    fn or(&mut self) -> Result<Expression, WqlError> {
        let first = self.and()?;
        if !self.cursor.at_keyword("OR") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.cursor.eat_keyword("OR") {
            items.push(self.and()?);
        }
        Ok(Expression::Or(items))
    }

    fn and(&mut self) -> Result<Expression, WqlError> {
        let first = self.not()?;
        if !self.cursor.at_keyword("AND") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.cursor.eat_keyword("AND") {
            items.push(self.not()?);
        }
        Ok(Expression::And(items))
    }

    fn not(&mut self) -> Result<Expression, WqlError> {
        if self.cursor.eat_keyword("NOT") {
            self.deeper()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Expression::Not(Box::new(inner)));
        }
        if self.cursor.eat("(") {
            self.deeper()?;
            let inner = self.or()?;
            self.depth -= 1;
            if !self.cursor.eat(")") {
                return Err(self.cursor.expected("AND, OR or a closing parenthesis"));
            }
            return Ok(inner);
        }
        self.predicate()
    }

    const fn deeper(&mut self) -> Result<(), WqlError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(WqlError::TooDeep(MAX_DEPTH)) } else { Ok(()) }
    }

    fn predicate(&mut self) -> Result<Expression, WqlError> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            return Err(WqlError::TooManyConditions(MAX_CONDITIONS));
        }
        let left = self.operand()?;
        if let Operand::Property(property) = &left
            && let Some(predicate) = self.property_predicate(property)?
        {
            return Ok(predicate);
        }
        let comparison = self.comparison()?;
        let position = self.cursor.position();
        let right = self.operand()?;
        let null = |operand: &Operand| matches!(operand, Operand::Literal(Literal::Null));
        if !null(&left) && !null(&right) {
            return Ok(Expression::Compare { left, comparison, right });
        }
        // `= NULL` means IS NULL (`ws-management.md` §8.1); NULL has no order.
        let negated = match comparison {
            Comparison::Equal => false,
            Comparison::NotEqual => true,
            _ => return Err(WqlError::NotSupported { position, what: "an order of NULL" }),
        };
        match (left, right) {
            (Operand::Property(property), _) | (_, Operand::Property(property)) => {
                Ok(Expression::IsNull { property, negated })
            }
            _ => Err(WqlError::NotSupported { position, what: "NULL beside a literal" }),
        }
    }

    /// The predicates that are no comparison of two operands.
    fn property_predicate(&mut self, property: &PropertyReference) -> Result<Option<Expression>, WqlError> {
        let property = property.clone();
        if self.cursor.eat_keyword("IS") {
            let negated = self.cursor.eat_keyword("NOT");
            self.cursor.keyword("NULL")?;
            return Ok(Some(Expression::IsNull { property, negated }));
        }
        if self.cursor.eat_keyword("ISA") {
            let class = self.class_or_string()?;
            return Ok(Some(Expression::Isa { property, class }));
        }
        let negated = self.cursor.eat_keyword("NOT");
        if self.cursor.eat_keyword("LIKE") {
            let pattern = self.cursor.string(false)?;
            return Ok(Some(Expression::Like { property, pattern, negated }));
        }
        if negated { Err(self.cursor.expected("LIKE")) } else { Ok(None) }
    }

    fn class_or_string(&mut self) -> Result<ClassName, WqlError> {
        if !self.cursor.at_string() {
            return self.cursor.name("a class name").map(ClassName::new);
        }
        let before = self.cursor.clone();
        let text = self.cursor.string(true)?;
        let mut inner = Cursor::new(&text);
        match inner.name("") {
            Ok(name) if inner.at_end() => Ok(ClassName::new(name)),
            _ => Err(before.expected("a class name")),
        }
    }

    fn comparison(&mut self) -> Result<Comparison, WqlError> {
        // Longer symbols first.
        for (symbol, comparison) in [
            ("<>", Comparison::NotEqual),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("=", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ] {
            if self.cursor.eat(symbol) {
                return Ok(comparison);
            }
        }
        Err(self.cursor.expected("a comparison, LIKE, IS or ISA"))
    }

    fn operand(&mut self) -> Result<Operand, WqlError> {
        if self.cursor.at_string() {
            return self.cursor.string(true).map(|text| Operand::Literal(Literal::String(text)));
        }
        if self.cursor.at_number() {
            return self.cursor.number().map(Operand::Literal);
        }
        for (keyword, literal) in
            [("TRUE", Literal::Boolean(true)), ("FALSE", Literal::Boolean(false)), ("NULL", Literal::Null)]
        {
            if self.cursor.eat_keyword(keyword) {
                return Ok(Operand::Literal(literal));
            }
        }
        self.property("a property, a literal or a parenthesis").map(Operand::Property)
    }

    fn property(&mut self, expected: &'static str) -> Result<PropertyReference, WqlError> {
        let name = self.cursor.name(expected)?;
        if !self.cursor.eat(".") {
            return Ok(PropertyReference { class: None, name: PropertyName::new(name) });
        }
        let class = Some(ClassName::new(name));
        Ok(PropertyReference { class, name: PropertyName::new(self.cursor.name("a property name")?) })
    }

    fn associators(&mut self, object: ObjectPath) -> Result<AssociatorsOf, WqlError> {
        let mut query = AssociatorsOf::new(object);
        self.options()?;
        while let Some(option) = self.option()? {
            match option {
                AssociationOption::AssocClass => self.class_value(&mut query.assoc_class)?,
                AssociationOption::ResultClass => self.class_value(&mut query.result_class)?,
                AssociationOption::ResultRole => self.property_value(&mut query.result_role)?,
                AssociationOption::Role => self.property_value(&mut query.role)?,
                AssociationOption::RequiredQualifier => self.class_value(&mut query.required_qualifier)?,
                AssociationOption::RequiredAssocQualifier => self.class_value(&mut query.required_assoc_qualifier)?,
                AssociationOption::KeysOnly => query.keys_only = true,
                AssociationOption::ClassDefsOnly => query.class_defs_only = true,
            }
        }
        Ok(query)
    }

    fn references(&mut self, object: ObjectPath) -> Result<ReferencesOf, WqlError> {
        let mut query = ReferencesOf::new(object);
        self.options()?;
        loop {
            let before = self.cursor.clone();
            let Some(option) = self.option()? else {
                return Ok(query);
            };
            match option {
                AssociationOption::ResultClass => self.class_value(&mut query.result_class)?,
                AssociationOption::Role => self.property_value(&mut query.role)?,
                AssociationOption::RequiredQualifier => self.class_value(&mut query.required_qualifier)?,
                AssociationOption::KeysOnly => query.keys_only = true,
                AssociationOption::ClassDefsOnly => query.class_defs_only = true,
                AssociationOption::AssocClass
                | AssociationOption::ResultRole
                | AssociationOption::RequiredAssocQualifier => {
                    return Err(before.expected("an option of REFERENCES OF"));
                }
            }
        }
    }

    /// The WHERE in front of the options, which has at least one behind it.
    fn options(&mut self) -> Result<(), WqlError> {
        let wanted = if self.cursor.eat_keyword("WHERE") { !self.cursor.at_end() } else { self.cursor.at_end() };
        if wanted { Ok(()) } else { Err(self.cursor.expected("WHERE with an option such as ResultClass")) }
    }

    fn option(&mut self) -> Result<Option<AssociationOption>, WqlError> {
        if self.cursor.at_end() {
            return Ok(None);
        }
        if self.cursor.at_keyword("SchemaOnly") {
            return Err(self.not_supported("a query for classes (SchemaOnly)"));
        }
        for (keyword, option) in AssociationOption::ALL {
            if self.cursor.eat_keyword(keyword) {
                return Ok(Some(option));
            }
        }
        Err(self.cursor.expected("an option such as ResultClass"))
    }

    fn class_value(&mut self, slot: &mut Option<ClassName>) -> Result<(), WqlError> {
        self.once(slot.is_some())?;
        *slot = Some(ClassName::new(self.option_value()?));
        Ok(())
    }

    fn property_value(&mut self, slot: &mut Option<PropertyName>) -> Result<(), WqlError> {
        self.once(slot.is_some())?;
        *slot = Some(PropertyName::new(self.option_value()?));
        Ok(())
    }

    fn once(&self, given: bool) -> Result<(), WqlError> {
        if given { Err(self.not_supported("an option given twice")) } else { Ok(()) }
    }

    fn option_value(&mut self) -> Result<&'a str, WqlError> {
        if !self.cursor.eat("=") {
            return Err(self.cursor.expected("="));
        }
        self.cursor.name("a name")
    }
}

/// What may stand after WHERE of an association query.
#[derive(Clone, Copy)]
enum AssociationOption {
    AssocClass,
    ClassDefsOnly,
    KeysOnly,
    RequiredAssocQualifier,
    RequiredQualifier,
    ResultClass,
    ResultRole,
    Role,
}

impl AssociationOption {
    const ALL: [(&'static str, Self); 8] = [
        ("AssocClass", Self::AssocClass),
        ("ClassDefsOnly", Self::ClassDefsOnly),
        ("KeysOnly", Self::KeysOnly),
        ("RequiredAssocQualifier", Self::RequiredAssocQualifier),
        ("RequiredQualifier", Self::RequiredQualifier),
        ("ResultClass", Self::ResultClass),
        ("ResultRole", Self::ResultRole),
        ("Role", Self::Role),
    ];
}
