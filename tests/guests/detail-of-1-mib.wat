;; Rejects a row with a detail of 1 MiB, of which little is kept.
;; culprits: rejected
(func $on_null (param $row i32)
  (drop (memory.grow (i32.const 20)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 1048576))
  (call $reject (local.get $row) (i32.const 0) (i32.const 65536) (i32.const 1048576)))
