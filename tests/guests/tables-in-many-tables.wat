;; Has three tables, each within the limit, and all of them together over it.
;; expect: wanted more table elements than the 20000 of rule.guest.tables
(table $first 7000 funcref)
(table $second 7000 funcref)
(table $third 1 funcref)
(func $on_null (param $row i32)
  (drop (table.grow $third (ref.null func) (i32.const 7000))))
