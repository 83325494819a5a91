-- The indexes of fleets leave out a document that is damaged, instead of failing at it: a damaged
-- row could not be changed or removed.

DROP INDEX twin_desired_building;
DROP INDEX twin_desired_floor;
DROP INDEX twin_reported_building;
DROP INDEX twin_reported_floor;
DROP INDEX twin_tags_building;
DROP INDEX twin_tags_floor;

-- The text must be exactly what store::query compiles a path to.
CREATE INDEX twin_desired_building ON twin (CASE WHEN json_valid(desired, 8) THEN json_extract(desired, '$."building"') END);
CREATE INDEX twin_desired_floor ON twin (CASE WHEN json_valid(desired, 8) THEN json_extract(desired, '$."floor"') END);
CREATE INDEX twin_reported_building ON twin (CASE WHEN json_valid(reported, 8) THEN json_extract(reported, '$."building"."value"') END);
CREATE INDEX twin_reported_floor ON twin (CASE WHEN json_valid(reported, 8) THEN json_extract(reported, '$."floor"."value"') END);
CREATE INDEX twin_tags_building ON twin (CASE WHEN json_valid(tags, 8) THEN json_extract(tags, '$."building"') END);
CREATE INDEX twin_tags_floor ON twin (CASE WHEN json_valid(tags, 8) THEN json_extract(tags, '$."floor"') END);
