;; Writes a number that JSON has not.
;; expect: no JSON number: `NaN`
(data (i32.const 24576) "NaN")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 3) (i32.const 3) (i32.const 3)))
