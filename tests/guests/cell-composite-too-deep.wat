;; Writes an array in an array, and so on, a hundred thousand deep.
;; expect: no JSON object or array of at most 112 levels: `[[[
(func $on_null (param $row i32)
  (drop (memory.grow (i32.const 4)))
  (memory.fill (global.get $scratch) (i32.const 91) (i32.const 100000))
  (memory.fill (i32.add (global.get $scratch) (i32.const 100000)) (i32.const 93) (i32.const 100000))
  (call $write (local.get $row) (i32.const 5) (i32.const 200000) (i32.const 200000)))
