-- Whether an identity is one of IoT Edge: kept for clients, without effect in this hub.

ALTER TABLE device ADD COLUMN iot_edge INTEGER NOT NULL DEFAULT 0;
