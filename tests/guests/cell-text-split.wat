;; Writes two cells of text with one character across both. Together they are UTF-8; each is not.
;; expect: `y` breaks the contract
(data (i32.const 24576) "\c3\a9")
(func $on_null (param $row i32)
  (call $write (local.get $row) (i32.const 4) (i32.const 1) (i32.const 2))
  (if (i32.lt_u (i32.add (local.get $row) (i32.const 1)) (global.get $rows))
    (then (call $write (i32.add (local.get $row) (i32.const 1)) (i32.const 4) (i32.const 2) (i32.const 2)))))
