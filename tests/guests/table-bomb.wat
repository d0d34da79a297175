;; Takes elements of tables until there are none.
;; expect: wanted more table elements than the 20000 of rule.guest.tables
(table $large 1 funcref)
(func $on_null (param $row i32)
  (loop $ever (drop (table.grow $large (ref.null func) (i32.const 10000))) (br $ever)))
