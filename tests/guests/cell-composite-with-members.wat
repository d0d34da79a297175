;; Writes an object that ends early, and further members of the message after it.
;; expect: no JSON object or array: `{},
(data (i32.const 24576) "{},\"admin\":{}")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 5) (i32.const 13) (i32.const 13)))
